"""Registering datasets, models and indexes over HTTP, and what is refused."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from places import Places

from app.database.engine import Database
from app.datasets import registration
from attribution.index.config import IndexConfig
from attribution.methods import METHODS


def write_metadata(places: Places, *rows: dict[str, Any] | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (places.dataset / "metadata.jsonl").write_text("\n".join(lines))


def register_dataset(http: TestClient, places: Places, name: str = "pictures") -> Any:
    return http.post("/v1/datasets", json={"name": name, "path": str(places.dataset)})


def register_model(http: TestClient, places: Places, name: str = "tiny") -> Any:
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    return http.post("/v1/models", json={"name": name, **paths})


def test_a_dataset_with_owners(http: TestClient, places: Places) -> None:
    owner = {"creator": "Ada", "licence": "CC-BY-4.0 OR LicenseRef-Ada", "source": "home"}
    write_metadata(places, {"file_name": "3.png", "text": "three", **owner}, {"file_name": "1.png"})
    made = register_dataset(http, places)
    assert (made.status_code, made.json()["sample_count"]) == (201, 2)
    assert made.headers["Location"] == f"/v1/datasets/{made.json()['id']}"
    nobody = dict.fromkeys(("text", "creator", "licence", "source", "creator_uri", "opt_out"))
    assert http.get("/v1/datasets/pictures/samples").json()["items"] == [
        {"key": "1.png", **nobody},
        {**nobody, "key": "3.png", "text": "three", **owner},
    ]
    picture = http.get("/v1/datasets/pictures/samples/3.png/image")
    assert picture.content == (places.dataset / "3.png").read_bytes()
    assert picture.headers["content-type"] == "image/png"


def test_the_same_name_again(http: TestClient, places: Places) -> None:
    first = register_dataset(http, places)
    again = register_dataset(http, places)
    assert (again.status_code, again.json()) == (200, first.json())
    write_metadata(places, {"file_name": "1.png"})
    assert register_dataset(http, places).status_code == 409
    assert [found["name"] for found in http.get("/v1/datasets").json()["items"]] == ["pictures"]


def test_samples_come_in_pages(http: TestClient, places: Places) -> None:
    register_dataset(http, places)
    keys, cursor = [], None
    while True:
        page = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        found = http.get("/v1/datasets/pictures/samples", params=page).json()
        keys += [sample["key"] for sample in found["items"]]
        if not (cursor := found["next_cursor"]):
            break
    assert keys == [f"{number}.png" for number in range(5)]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["no json"], "metadata.jsonl:1"),
        ([{"file_name": "0.png"}, {"text": "whose?"}], "metadata.jsonl:2"),
        ([{"file_name": "9.png"}], "9.png does not exist"),
        ([{"file_name": "../model/unet/model.safetensors"}], "outside the folder"),
        ([{"file_name": "0.png"}, {"file_name": "./0.png"}], "metadata.jsonl:2"),
        ([{"file_name": "0.png", "creator": 7}], "creator must be a string"),
        ([{"file_name": "0.png", "licence": "free for all"}], "0.png"),
        ([{"file_name": "0.png", "licence": "CC-BY-9"}], "CC-BY-9"),
        (['{"file_name": "0.png", "x": ' + "[" * 100_000], "metadata.jsonl:1"),
        ([{"file_name": "a\0.png"}], "cannot be stored"),
        ([{"file_name": "a" * 300}], "cannot be opened"),
        ([{"file_name": "loop.png"}], "cannot be opened"),
        ([{"file_name": "0.png", "creator": "\ud800"}], "cannot be stored"),
    ],
)
def test_metadata_that_is_refused(
    http: TestClient, places: Places, rows: list[Any], named: str
) -> None:
    (places.dataset / "loop.png").symlink_to("loop.png")
    write_metadata(places, *rows)
    refused = register_dataset(http, places)
    assert refused.status_code == 422
    assert named in refused.json()["detail"]
    assert http.get("/v1/datasets").json()["items"] == []


def test_a_link_out_of_the_folder(http: TestClient, places: Places) -> None:
    (places.dataset / "metadata.jsonl").unlink()
    outside = places.dataset.parent / "outside.png"
    outside.write_bytes((places.dataset / "0.png").read_bytes())
    (places.dataset / "link.png").symlink_to(outside)
    refused = register_dataset(http, places)
    assert refused.status_code == 422
    assert "link.png: it lies outside the folder" in refused.json()["detail"]


def test_nul_is_no_unexpected_error(http: TestClient) -> None:
    for path in ("/v1/models/%00", "/v1/indexes/%00", "/v1/datasets/%00/samples"):
        assert http.get(path).status_code in {404, 422}
    assert http.get("/v1/models?cursor=%00").status_code in {200, 422}
    refused = http.post("/v1/attributions", json={"prompt": "a", "model": "\0"})
    assert refused.status_code in {404, 422}


def test_paths_outside_the_roots(http: TestClient, places: Places) -> None:
    for path in ("/etc", str(places.dataset.parent), "no/such", "\0"):
        refused = http.post("/v1/datasets", json={"name": "x", "path": path})
        assert refused.status_code == 422
        assert refused.json()["title"] == "The path lies outside the allowed roots"


def test_a_model(http: TestClient, places: Places) -> None:
    made = register_model(http, places)
    assert (made.status_code, made.json()["pipeline_class"]) == (201, "PixelTextToImagePipeline")
    assert register_model(http, places).status_code == 200
    assert http.get("/v1/models/tiny").json() == http.get("/v1/models").json()["items"][0]
    (places.model / "unet" / "model.safetensors").write_bytes(b"other")
    assert register_model(http, places).status_code == 409


def test_models_that_are_refused(http: TestClient, places: Places) -> None:
    pickled = places.model / "unet" / "model.bin"
    pickled.write_bytes(b"pickle")
    assert "only safetensors" in register_model(http, places).json()["detail"]
    pickled.unlink()
    (places.model / "model_index.json").write_text('{"_class_name": "Exotic"}')
    assert "Exotic is not supported" in register_model(http, places).json()["detail"]
    (places.model / "model_index.json").unlink()
    assert register_model(http, places).status_code == 422


def test_models_that_lack_a_part_are_refused(http: TestClient, places: Places) -> None:
    """The API reads the directory's configurations, and does not wait for a worker to fail."""
    index = json.loads((places.model / "model_index.json").read_text())
    without = index | {"text_encoder": [None, None]}
    (places.model / "model_index.json").write_text(json.dumps(without))
    assert "has no text_encoder" in register_model(http, places).json()["detail"]
    (places.model / "model_index.json").write_text(json.dumps(index))
    (places.model / "text_encoder" / "config.json").write_text('{"hidden_size": 5}')
    assert (
        "5 wide, and its unet's cross-attention 4" in register_model(http, places).json()["detail"]
    )


def test_a_lora_is_part_of_its_model(http: TestClient, places: Places) -> None:
    """Its file counts into the digest, its weights are what an index looks at."""
    register_dataset(http, places)
    plain = register_model(http, places).json()
    lora = places.model / "lora"
    lora.mkdir()
    body = {
        "name": "adapted", "path": str(places.model), "clip_path": str(places.clip),
        "lora_path": str(lora),
    }  # fmt: skip
    assert "holds no LoRA" in http.post("/v1/models", json=body).json()["detail"]
    (lora / "pytorch_lora_weights.safetensors").write_bytes(b"lora")
    adapted = http.post("/v1/models", json=body)
    assert (adapted.status_code, adapted.json()["lora"]) == (201, str(lora.resolve()))
    assert adapted.json()["digest"] != plain["digest"]
    for model, parameters in (("adapted", "lora"), ("tiny", "all")):
        wanted = {"model": model, "dataset": "pictures"}
        made = http.post("/v1/indexes", json=wanted).json()
        assert made["config"]["parameters"] == parameters
    said = {"model": "adapted", "dataset": "pictures", "config": {"parameters": "all"}}
    assert http.post("/v1/indexes", json=said).json()["config"]["parameters"] == "all"
    outside = body | {"name": "x", "lora_path": "/etc"}
    assert http.post("/v1/models", json=outside).json()["title"] == (
        "The path lies outside the allowed roots"
    )


def test_images_without_captions_are_refused_where_captions_were_trained_with(
    http: TestClient, places: Places
) -> None:
    write_metadata(places, {"file_name": "1.png"}, {"file_name": "2.png", "text": ""})
    register_dataset(http, places)
    register_model(http, places)
    refused = http.post("/v1/indexes", json={"model": "tiny", "dataset": "pictures"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("1 of 2 images have no text, 1.png the first")
    write_metadata(
        places, {"file_name": "1.png", "text": "one"}, {"file_name": "2.png", "text": ""}
    )
    register_dataset(http, places, "captioned")
    accepted = http.post("/v1/indexes", json={"model": "tiny", "dataset": "captioned"})
    assert accepted.status_code == 202


def test_an_index_is_built_once(http: TestClient, places: Places, database: Database) -> None:
    register_dataset(http, places)
    register_model(http, places)
    wanted = {"model": "tiny", "dataset": "pictures", "config": {"probes": 1}}
    made = http.post("/v1/indexes", json=wanted)
    assert (made.status_code, made.json()["state"]) == (202, "building")
    assert made.json()["progress"] == {"stage": "shards", "fraction": 0.0}
    again = http.post("/v1/indexes", json=wanted)
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    polled = http.get(made.headers["Location"])
    assert polled.headers["Retry-After"]
    known = {"If-None-Match": polled.headers["ETag"]}
    assert http.get(made.headers["Location"], headers=known).status_code == 304
    other = wanted | {"config": {"probes": 9}}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.post("/v1/indexes", json=other), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    activated = http.post(made.json()["urls"]["activate"])
    assert (activated.status_code, activated.json()["title"]) == (409, "The index is not ready")
    for fault in (
        {"probes": 0},
        {"probes": 3},
        {"colour": 1},
        {"timesteps": "10"},
        {"damping": -1},
    ):
        refused = http.post("/v1/indexes", json=wanted | {"config": fault})
        assert refused.status_code == 422
    assert http.post("/v1/indexes", json=wanted | {"model": "other"}).status_code == 404


def test_an_index_is_asked_for_by_method(http: TestClient, places: Places) -> None:
    """The method says what is differentiated; knobs that contradict it are refused."""
    register_dataset(http, places)
    register_model(http, places)
    wanted = {"model": "tiny", "dataset": "pictures", "method": "trak"}
    made = http.post("/v1/indexes", json=wanted | {"config": {"timesteps": 2}}).json()
    assert (made["config"]["output"], made["config"]["timesteps"]) == ("loss", 2)
    assert "relative-influence" in made["methods"]
    assert "das" not in made["methods"]
    apart = http.post("/v1/indexes", json=wanted | {"method": "das-t"}).json()
    assert apart["config"]["average_timesteps"] is False
    assert apart["methods"] == ["das-t"]
    for fault in ({"method": "guess"}, {"config": {"output": "regions"}}):
        refused = http.post("/v1/indexes", json=wanted | fault)
        assert refused.status_code == 422, refused.text


def test_the_schema_lists_methods_and_knobs(http: TestClient) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    build = schemas["IndexIn"]["properties"]
    assert set(METHODS) == set(build["method"]["anyOf"][0]["enum"])
    assert set(IndexConfig().to_dict()) == set(build["config"]["properties"])


@pytest.mark.parametrize(
    "config",
    [
        '{"damping": NaN}',
        '{"damping": 1e999}',
        "[]",
        '{"probes": [4]}',
        '{"\\ud800": 1}',
        '{"name": "x"}',
        '{"parameters": "("}',
    ],
)
def test_a_configuration_beyond_json_is_refused(http: TestClient, config: str) -> None:
    body = f'{{"model": "tiny", "dataset": "pictures", "config": {config}}}'
    refused = http.post("/v1/indexes", content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.headers["Content-Type"]) == (
        422,
        "application/problem+json",
    )


def register(http: TestClient, path: Path, **wanted: Any) -> Any:
    return http.post("/v1/datasets", json={"name": "pictures", "path": str(path), **wanted})


def test_images_that_cannot_be_decoded(http: TestClient, places: Places) -> None:
    whole = (places.dataset / "1.png").read_bytes()
    (places.dataset / "1.png").write_bytes(whole[:45])
    refused = register_dataset(http, places)
    assert refused.status_code == 422
    assert "1.png: it cannot be decoded" in refused.json()["detail"]
    assert http.get("/v1/datasets").json()["items"] == []


def test_what_is_refused_is_left_out_and_told(http: TestClient, places: Places) -> None:
    rows = [{"file_name": f"{number}.png", "text": "a"} for number in range(5)]
    rows[1]["licence"] = "free for all"
    write_metadata(places, *rows, "no json")
    (places.dataset / "0.png").write_bytes(b"")
    (places.dataset / "3.png").write_text("<script>")
    made = register(http, places.dataset, skip_invalid=True)
    assert (made.status_code, made.json()["sample_count"]) == (201, 2)
    assert made.json()["refused_count"] == 4
    page = http.get("/v1/datasets/pictures/refused?limit=3").json()
    rest = http.get(f"/v1/datasets/pictures/refused?cursor={page['next_cursor']}").json()
    assert rest["next_cursor"] is None
    told = {one["what"]: one["reason"] for one in page["items"] + rest["items"]}
    assert list(told) == ["metadata.jsonl:6", "0.png", "1.png", "3.png"]
    assert told["0.png"] == "it is empty"
    assert "'free for all' is no SPDX expression" in told["1.png"]
    assert told["3.png"] == "it is no PNG, JPEG, WEBP, BMP image"
    again = register(http, places.dataset, skip_invalid=True)
    assert (again.status_code, again.json()) == (200, made.json())


def test_nothing_but_faults(http: TestClient, places: Places) -> None:
    for number in range(5):
        (places.dataset / f"{number}.png").write_bytes(b"")
    refused = register(http, places.dataset, skip_invalid=True)
    assert refused.status_code == 422
    assert refused.json()["detail"] == "no image can be used; the first: 0.png: it is empty"


def test_a_file_that_wants_all_the_memory(http: TestClient, places: Places) -> None:
    """A PNG of a few bytes that promises 12,000 × 12,000 pixels of eight bytes each."""
    size = struct.pack(">II", 12_000, 12_000) + b"\x10\x06\0\0\0"
    chunk = b"IHDR" + size
    (places.dataset / "2.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    made = register(http, places.dataset, skip_invalid=True)
    assert (made.status_code, made.json()["sample_count"]) == (201, 4)
    (told,) = http.get("/v1/datasets/pictures/refused").json()["items"]
    assert told["what"] == "2.png"


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_images_in_archives_and_tables(http: TestClient, places: Places, form: str) -> None:
    contents = [(places.dataset / f"{number}.png").read_bytes() for number in range(5)]
    for file in places.dataset.iterdir():
        file.unlink()
    if form == "webdataset":
        with tarfile.open(places.dataset / "x.tar", "w") as archive:
            for number, content in enumerate(contents):
                said = json.dumps({"artist": f"artist {number}"}).encode()
                for suffix, part in (("png", content), ("json", said)):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(part)
                    archive.addfile(member, io.BytesIO(part))
    else:
        artists = [f"artist {number}" for number in range(5)]
        table = pa.table({"image": contents, "artist": artists})
        pq.write_table(table, places.dataset / "x.parquet")
    made = register(http, places.dataset, fields={"creator": "artist"})
    assert (made.status_code, made.json()["form"]) == (201, form)
    samples = http.get("/v1/datasets/pictures/samples").json()["items"]
    assert [sample["creator"] for sample in samples] == [f"artist {number}" for number in range(5)]
    for sample, content in zip(samples, contents, strict=True):
        path = f"/v1/datasets/pictures/samples/{sample['key']}"
        picture = http.get(f"{path}/image")
        assert (picture.content, picture.headers["content-type"]) == (content, "image/png")
        assert http.get(f"{path}/thumbnail").headers["content-type"] == "image/png"
    next(places.dataset.iterdir()).unlink()
    assert http.get(f"{path}/image").json()["title"] == "The sample's file is gone"


def test_a_field_that_no_image_has(http: TestClient, places: Places) -> None:
    refused = register(http, places.dataset, fields={"creator": "artist"})
    assert (refused.status_code, "no image has artist" in refused.json()["detail"]) == (422, True)
    unknown = register(http, places.dataset, fields={"colour": "artist"})
    assert unknown.json()["title"] == "The request is not valid"


def test_a_registration_that_is_watched(
    http: TestClient, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "LOOKED_AT_ONCE", 2)
    events = watched(http, places)
    assert [name for name, _ in events] == ["progress"] * 4 + ["dataset"]
    assert [told.get("done") for _, told in events[:4]] == [0, 2, 4, 5]
    assert events[-1][1] == http.get("/v1/datasets/pictures").json()
    again = http.post(
        "/v1/datasets",
        json={"name": "pictures", "path": str(places.dataset)},
        headers={"Accept": "text/event-stream"},
    )
    assert (again.status_code, again.json()) == (200, events[-1][1])


def test_a_watched_registration_that_fails(http: TestClient, places: Places) -> None:
    (places.dataset / "3.png").write_bytes(b"")
    name, problem = watched(http, places)[-1]
    assert (name, problem["status"]) == ("problem", 422)
    assert "3.png: it is empty" in problem["detail"]
    assert http.get("/v1/datasets").json()["items"] == []


def watched(http: TestClient, places: Places) -> list[tuple[str, dict[str, Any]]]:
    wanted = {"name": "pictures", "path": str(places.dataset)}
    headers = {"Accept": "text/event-stream"}
    with http.stream("POST", "/v1/datasets", json=wanted, headers=headers) as answer:
        assert answer.status_code == 200
        blocks = answer.read().decode().split("\n\n")[:-1]
    lines = [block.split("\n") for block in blocks]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in lines
    ]
