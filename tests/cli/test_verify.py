"""Receipts against an index and a model, without a server: what is true, forged, and nonsense."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.provenance.receipt import receipt
from app.provenance.record import Record
from attribution.answers import compose_answer
from attribution.attributor import Attributor
from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.features import GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from cli.errors import BadInputError, CommandError
from cli.verify import Places, differences, read_receipt

Json = dict[str, Any]
LISTED = 5
DRAWING = Drawing(3, 2, 1.0, "")


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_clip: Path, tiny_folder: Path
) -> Places:
    root = tmp_path_factory.mktemp("places")
    config = IndexConfig(timesteps=2, projection_dim=64)
    extractor = GradientFeatures(Denoiser.load(tiny_model), config)
    builder = IndexBuilder(root / "index", extractor, ImageSet(tiny_folder))
    for shard in builder.shards:
        builder.extract(shard.number)
    builder.finalise(ClipEmbedder(str(tiny_clip)))
    return Places(root / "index", tiny_model, tiny_clip, tiny_folder / "ada" / "ring.png")


@pytest.fixture(scope="module")
def attributor(places: Places) -> Attributor:
    denoiser, clip = Denoiser.load(places.model), ClipEmbedder(str(places.clip))
    return Attributor(Index(places.index), denoiser, clip)


def written(attributor: Attributor, png: bytes, question: Json, drawing: Drawing | None) -> Json:
    """The receipt of an answer, as JSON."""
    asked = {"method": "das", "candidates": "exhaustive", "candidate_count": 200, "top_k": LISTED}
    text = question.get("prompt") or question.get("caption")
    computed = attributor.attribute(Image.open(io.BytesIO(png)), caption=text, drawing=drawing)
    now, digest = datetime.now(UTC), hashlib.sha256(png).hexdigest()
    record = Record(
        attribution_id="atr_1",
        index_id="idx_1",
        request=question | asked,
        result=compose_answer(computed, {}, LISTED),
        subject=digest,
        subject_type="image/png",
        picture=digest,
        started_at=now,
        finished_at=now,
        model_name="tiny",
        model_digest="c" * 64,
        dataset_name="shapes",
        contents={},
    )
    said: Json = json.loads(receipt(record).model_dump_json(exclude_unset=True, by_alias=True))
    return said


@pytest.fixture(scope="module")
def sent(attributor: Attributor, places: Places) -> Json:
    assert places.picture is not None
    return written(attributor, places.picture.read_bytes(), {"caption": "ring, ada"}, None)


@pytest.fixture(scope="module")
def drawn(attributor: Attributor) -> tuple[Json, bytes]:
    """A receipt of a prompt, and its picture."""
    png = io.BytesIO()
    attributor.denoiser.generate("disc, bob", DRAWING).save(png, "PNG")
    question = {"prompt": "disc, bob", "seed": 3, "steps": 2, "guidance_scale": 1.0}
    said = written(attributor, png.getvalue(), question | {"negative_prompt": ""}, DRAWING)
    return said, png.getvalue()


@pytest.fixture
def verify(places: Places, tmp_path: Path) -> Callable[..., list[str]]:
    def compare(said: Json, **elsewhere: Path | None) -> list[str]:
        file = tmp_path / "receipt.json"
        file.write_text(json.dumps(said))
        there = replace(places, **elsewhere)  # type: ignore[arg-type]
        return differences(read_receipt(file), there, lambda stage, fraction: None)

    return compare


def test_true_receipts_come_out_the_same(
    verify: Callable[..., list[str]], sent: Json, drawn: tuple[Json, bytes]
) -> None:
    assert verify(sent) == []
    assert verify(drawn[0], picture=None) == []
    close = copy.deepcopy(sent)
    close["contributors"][0]["score"] *= 1 + 1e-6
    close["rests_on"]["libraries"] = {"torch": "another"}
    assert verify(close) == []


def first(said: Json) -> Json:
    row: Json = said["contributors"][0]
    return row


FORGERIES: dict[str, tuple[Callable[[Json], object], str]] = {
    "score": (lambda said: first(said).update(score=first(said)["score"] * 2), "has score"),
    "effect": (lambda said: first(said).update(effect=-first(said)["effect"]), "has effect"),
    "another image": (lambda said: first(said).update(key="none.png"), "is not among"),
    "images exchanged": (
        lambda said: said.update(
            contributors=[
                row | {"key": other["key"]}
                for row, other in zip(
                    said["contributors"], reversed(said["contributors"]), strict=True
                )
            ]
        ),
        "has score",
    ),
    "rank": (lambda said: said["contributors"][-1].update(rank=LISTED + 1), "do not count up"),
    "rank far away": (lambda said: said["contributors"][-1].update(rank=10**9), "count up"),
    "first left out": (lambda said: said["contributors"].pop(0), "images come first"),
    "last left out": (lambda said: said["contributors"].pop(), "5 images come first, not 4"),
    "all left out": (lambda said: said["contributors"].clear(), "5 images come first, not 0"),
    "listed twice": (
        lambda said: said["contributors"][1].update(key=first(said)["key"]),
        "listed twice",
    ),
    "fewer asked for": (lambda said: said["question"].update(top_k=4), "4 images come first"),
    "method": (lambda said: said["rests_on"].update(method="trak"), "method is das, not trak"),
    "method asked for": (lambda said: said["question"].update(method="das-signed"), "method is"),
    "timesteps": (lambda said: said["rests_on"].update(timesteps=1000), "timesteps is 2"),
    "model": (lambda said: said["rests_on"].update(model_digest="0" * 64), "model_digest is"),
    "praise": (lambda said: said["rests_on"].update(certified=True), "certified is None, not True"),
    "left unsaid": (lambda said: said["rests_on"].pop("seed"), "seed is 0, not None"),
    "corpus": (lambda said: said["candidates"].update(corpus=10**9), "corpus is 12"),
    "caption": (lambda said: said["question"].update(caption="wedge, bob"), "has score"),
    "index": (lambda said: said["rests_on"].update(index_version="0" * 64), "another one"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_receipts_differ(verify: Callable[..., list[str]], sent: Json, name: str) -> None:
    forge, told = FORGERIES[name]
    forged = copy.deepcopy(sent)
    forge(forged)
    assert forged != sent
    assert told in "; ".join(verify(forged))


def test_a_picture_that_was_not_drawn_so(
    verify: Callable[..., list[str]], drawn: tuple[Json, bytes], tmp_path: Path
) -> None:
    said, png = drawn
    other = said | {"question": said["question"] | {"seed": 4}}
    (told,) = verify(other, picture=None)
    assert told == "the prompt and seed draw another picture"
    kept = tmp_path / "kept.png"
    kept.write_bytes(png)
    assert verify(other, picture=kept) == [told]
    # Another processor rounds another way: by a level, which the kept picture shows.
    image = Image.open(io.BytesIO(png))
    image.point(lambda level: min(level + 1, 255)).save(kept)
    elsewhere = said | {"picture_sha256": hashlib.sha256(kept.read_bytes()).hexdigest()}
    assert told not in verify(elsewhere, picture=kept)
    assert verify(elsewhere, picture=None) == [told]


NONSENSE: dict[str, Callable[[Json], object]] = {
    "score that is none": lambda said: first(said).update(score=float("nan")),
    "endless effect": lambda said: first(said).update(effect=float("inf")),
    "half a rank": lambda said: first(said).update(rank=1.5),
    "rank 0": lambda said: first(said).update(rank=0),
    "no key": lambda said: first(said).pop("key"),
    "unknown method": lambda said: said["question"].update(method="magic"),
    "unknown candidates": lambda said: said["question"].update(candidates="all"),
    "negative count": lambda said: said["question"].update(candidate_count=-1),
    "caption of another type": lambda said: said["question"].update(caption=7),
    "no steps": lambda said: said.update(question={"prompt": "a", "steps": 0}),
    "seed too large": lambda said: said.update(question={"prompt": "a", "seed": 2**80}),
    "digest that is a path": lambda said: said.update(picture_sha256="../../etc/passwd"),
    "index that is a path": lambda said: said.update(index_id="idx_1\0"),
    "no question": lambda said: said.pop("question"),
    "question of another type": lambda said: said.update(question=3),
    "word that nobody checks": lambda said: said.update(approved=True),
    "another schema": lambda said: said.update(schema="urn:headwater:schema:receipt:2"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_receipt_is_one_line(
    verify: Callable[..., list[str]], sent: Json, name: str
) -> None:
    nonsense = copy.deepcopy(sent)
    NONSENSE[name](nonsense)
    with pytest.raises(BadInputError, match=r"is no receipt: .+"):
        verify(nonsense)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"{}", b"[]", b"null"])
def test_files_that_are_no_receipt(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "receipt.json"
    file.write_bytes(content)
    with pytest.raises(BadInputError, match="is no receipt"):
        read_receipt(file)


def test_places_that_hold_something_else(
    verify: Callable[..., list[str]], sent: Json, places: Places, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(places.index, damaged)
    (damaged / "samples.json").write_text("[]")
    for elsewhere, told in (
        ({"index": tmp_path}, "no finished index"),
        ({"index": damaged}, "missing or damaged"),
        ({"model": tmp_path}, "model_index.json"),
        ({"clip": tmp_path}, "open_clip_config.json"),
        ({"picture": None}, "say --picture"),
        ({"picture": places.index / "samples.json"}, "is not the picture of the receipt"),
    ):
        with pytest.raises(CommandError, match=told):
            verify(sent, **elsewhere)
