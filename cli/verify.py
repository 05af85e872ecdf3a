"""``headwater verify``: compute an answer again from its receipt, and compare."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from attribution.answers import considered, ranking, rests_on
from attribution.attributor import Attribution, Attributor
from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.index.search import Index
from cli.errors import BadInputError, CommandError
from cli.installation import migrated_database, read_settings

if TYPE_CHECKING:
    from app.provenance.receipt import Receipt

# Of the largest score or effect: what other processors and batch sizes may change.
TOLERANCE = 1e-3
# Of 255: what they may change in a picture that is drawn again.
LEVELS = 2


@dataclass(frozen=True)
class Places:
    """Where the index, the model, its LoRA and its CLIP lie, and the picture where it is kept."""

    index: Path
    model: Path
    clip: Path
    picture: Path | None
    lora: Path | None = None


def read_receipt(path: Path) -> Receipt:
    """A receipt as the server wrote it; anything else is one line."""
    from pydantic import ValidationError

    from app.provenance.receipt import Receipt

    try:
        return Receipt.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise BadInputError(
            f"{path} is no receipt: {where and f'{where}: '}{fault['msg']}"
        ) from None


def places_of(receipt: Receipt) -> Places:
    """Where this installation keeps what a receipt speaks of."""
    from app.database.tables import IndexVersion, Model
    from app.storage import ImageStore

    settings = read_settings()
    with migrated_database() as database, database.read() as session:
        index = session.get(IndexVersion, receipt.index_id)
        if index is None:
            raise CommandError(
                f"no index {receipt.index_id} is known here: say --index, --model and --clip"
            )
        model = session.get_one(Model, index.model_id)
    picture = ImageStore(settings.home).path(receipt.picture_sha256)
    return Places(
        settings.home / index.directory,
        Path(model.directory),
        Path(model.clip_directory),
        picture if picture.is_file() else None,
        Path(model.lora) if model.lora else None,
    )


def differences(
    receipt: Receipt, places: Places, on_progress: Callable[[str, float], None]
) -> list[str]:
    """How an answer that is computed now differs from the receipt's, in words, if it does."""
    try:
        index = Index(places.index, verify=True)
        if index.manifest.digest != receipt.rests_on.get("index_version"):
            return ["the index is another one, or images were taken down since"]
        denoiser = Denoiser.load(places.model, lora=places.lora)
        attributor = Attributor(index, denoiser, ClipEmbedder(str(places.clip)))
        text, drawing = _question(receipt)
        if drawing is None:
            image = _picture(places.picture, receipt.picture_sha256)
        elif drawn := _drawn_again(receipt, places.picture, denoiser, text or "", drawing):
            image = drawn
        else:
            return ["the prompt and seed draw another picture"]
        computed = attributor.attribute(
            image,
            caption=text,
            drawing=drawing,
            method=receipt.question.method,
            candidates=receipt.question.candidates,
            candidate_count=receipt.question.candidate_count,
            on_progress=on_progress,
        )
    except InputError as error:
        raise CommandError(str(error)) from None
    return [*_unlike(receipt, computed), *_listed_otherwise(receipt, computed)]


def _question(receipt: Receipt) -> tuple[str | None, Drawing | None]:
    """The prompt, where it is known, and how the picture was drawn, where it was not sent."""
    from app.attributions.schemas import PromptQuestion

    asked = receipt.question
    if not isinstance(asked, PromptQuestion):
        return asked.caption, None
    if asked.guidance_scale is None:
        raise InputError("the receipt does not say which guidance_scale the picture was drawn with")
    drawing = Drawing(asked.seed, asked.steps, asked.guidance_scale, asked.negative_prompt)
    return asked.prompt, drawing


def _drawn_again(
    receipt: Receipt, kept: Path | None, denoiser: Denoiser, prompt: str, drawing: Drawing
) -> Image.Image | None:
    """The picture that was drawn; None where another one is drawn now.

    Where it comes out otherwise by a level here and there, the picture as it was is needed.
    """
    image = denoiser.generate(prompt, drawing)
    png = io.BytesIO()
    image.save(png, "PNG")
    if hashlib.sha256(png.getvalue()).hexdigest() == receipt.picture_sha256:
        return image
    if kept is None:
        return None
    was = _picture(kept, receipt.picture_sha256)
    before, now = (np.asarray(each.convert("RGB"), dtype=int) for each in (was, image))
    same = before.shape == now.shape and np.abs(before - now).max() <= LEVELS
    return was if same else None


def _picture(path: Path | None, digest: str) -> Image.Image:
    if path is None:
        raise CommandError("the picture is not kept here: say --picture, as …/image gives it")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise CommandError(f"{path} is not the picture of the receipt")
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        raise CommandError(f"{path} is no picture") from None


def _unlike(receipt: Receipt, computed: Attribution) -> Iterator[str]:
    """What the receipt says of how it was computed, where that is not so."""
    for said, found in (
        (receipt.rests_on, rests_on(computed)),
        (receipt.candidates, considered(computed)),
    ):
        as_read: dict[str, Any] = json.loads(json.dumps(found))
        # Other versions of libraries may well come to the same.
        for name in sorted((said.keys() | as_read.keys()) - {"libraries"}):
            if said.get(name) != as_read.get(name):
                yield f"{name} is {as_read.get(name)}, not {said.get(name)}"


def _listed_otherwise(receipt: Receipt, computed: Attribution) -> Iterator[str]:
    """Where the list is not the one that was computed."""
    order = ranking(computed)
    place = {computed.keys[i]: (rank, i) for rank, i in enumerate(order, start=1)}
    length = min(receipt.question.top_k, len(order))
    rows = receipt.contributors
    ranks = [row.rank for row in rows]
    if len(rows) + receipt.redacted != length:
        yield f"{length} images come first, not {len(rows) + receipt.redacted}"
    if ranks != sorted(set(ranks)) or (ranks and ranks[-1] > length):
        yield "the ranks do not count up"
        return
    if len({row.key for row in rows}) < len(rows):
        yield "an image is listed twice"
    effects = computed.effects.sum(axis=1)
    close = TOLERANCE * float(abs(computed.scores).max())
    close_effects = TOLERANCE * float(abs(effects).max())
    for row in rows:
        if row.key not in place:
            yield f"{row.key} is not among the training images"
            continue
        rank, i = place[row.key]
        score, effect = float(computed.scores[i]), float(effects[i])
        # Others of nearly the same score may have changed places with it.
        there = float(computed.scores[order[row.rank - 1]])
        if abs(score - row.score) > close:
            yield f"{row.key} has score {score:.6g}, not {row.score:.6g}"
        elif abs(effect - row.effect) > close_effects:
            yield f"{row.key} has effect {effect:.6g}, not {row.effect:.6g}"
        elif abs(score - there) > close:
            yield f"{row.key} has rank {rank}, not {row.rank}"
