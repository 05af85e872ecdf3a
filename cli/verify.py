"""``headwater verify``: compute an answer again from its receipt, and compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from attribution.answers import ranking
from attribution.attributor import Attribution, Attributor
from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.index.search import Index
from cli.errors import BadInputError, CommandError
from cli.installation import migrated_database, read_settings

# Of the largest score: what other processors and batch sizes may change.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Places:
    """Where the index, the model and its CLIP lie, and the picture where it was not drawn."""

    index: Path
    model: Path
    clip: Path
    picture: Path | None


def read_receipt(path: Path) -> dict[str, Any]:
    """A receipt as the server wrote it; anything else is one line."""
    from app.provenance.receipt import RECEIPT_SCHEMA

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != RECEIPT_SCHEMA:
            raise KeyError("schema")
        question, rests_on = content["question"], content["rests_on"]
        for part, names in (
            (content, ("index_id", "picture_sha256", "contributors", "redacted")),
            (question, ("method", "candidates", "candidate_count")),
            (rests_on, ("index_version", "model_digest")),
        ):
            for name in names:
                part[name]
        for row in content["contributors"]:
            str(row["key"]), float(row["score"]), int(row["rank"])
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is no receipt: it is not text") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{path} is no receipt: {error}") from None
    found: dict[str, Any] = content
    return found


def places_of(receipt: dict[str, Any]) -> Places:
    """Where this installation keeps what a receipt speaks of."""
    from app.database.tables import IndexVersion, Model
    from app.storage import ImageStore

    settings = read_settings()
    with migrated_database() as database, database.read() as session:
        index = session.get(IndexVersion, receipt["index_id"])
        if index is None:
            raise CommandError(
                f"no index {receipt['index_id']} is known here: say --index, --model and --clip"
            )
        model = session.get_one(Model, index.model_id)
    picture = ImageStore(settings.home).path(receipt["picture_sha256"])
    return Places(
        settings.home / index.directory,
        Path(model.directory),
        Path(model.clip_directory),
        picture if picture.is_file() else None,
    )


def differences(
    receipt: dict[str, Any], places: Places, on_progress: Callable[[str, float], None]
) -> list[str]:
    """How an answer that is computed now differs from the receipt's, in words, if it does."""
    try:
        index = Index(places.index, verify=True)
        if index.manifest.digest != receipt["rests_on"]["index_version"]:
            return ["the index is another one, or images were taken down since"]
        denoiser = Denoiser.load(places.model)
        attributor = Attributor(index, denoiser, ClipEmbedder(str(places.clip)))
        computed = _attribute(receipt, attributor, places.picture, on_progress)
    except InputError as error:
        raise CommandError(str(error)) from None
    return list(_compared(receipt, computed))


def _attribute(
    receipt: dict[str, Any],
    attributor: Attributor,
    picture: Path | None,
    on_progress: Callable[[str, float], None],
) -> Attribution:
    question = receipt["question"]
    drawing = None
    if "prompt" in question:
        drawing = Drawing(
            question["seed"],
            question["steps"],
            question["guidance_scale"],
            question["negative_prompt"],
        )
        image = attributor.denoiser.generate(question["prompt"], drawing)
    else:
        image = _picture(picture, receipt["picture_sha256"])
    return attributor.attribute(
        image,
        caption=question.get("prompt") or question.get("caption"),
        drawing=drawing,
        method=question["method"],
        candidates=question["candidates"],
        candidate_count=question["candidate_count"],
        on_progress=on_progress,
    )


def _picture(path: Path | None, digest: str) -> Image.Image:
    if path is None:
        raise CommandError("the picture is not kept here: say --picture, as …/image gives it")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise CommandError(f"{path} is not the picture of the receipt")
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        raise CommandError(f"{path} is no picture") from None


def _compared(receipt: dict[str, Any], computed: Attribution) -> list[str]:
    order = ranking(computed)
    place = {computed.keys[i]: (rank, i) for rank, i in enumerate(order, start=1)}
    unit = float(abs(computed.scores).max()) or 1.0
    told = []
    for row in receipt["contributors"]:
        if row["key"] not in place:
            told.append(f"{row['key']} is not among the training images")
            continue
        rank, i = place[row["key"]]
        score = float(computed.scores[i])
        if abs(score - row["score"]) > TOLERANCE * unit:
            told.append(f"{row['key']} has score {score:.6g}, not {row['score']:.6g}")
        # Others of nearly the same score may have changed places with it.
        elif rank != row["rank"] and not receipt["redacted"]:
            there = float(computed.scores[order[row["rank"] - 1]])
            if abs(score - there) > TOLERANCE * unit:
                told.append(f"{row['key']} has rank {rank}, not {row['rank']}")
    return told
