"""Registering datasets, models and indexes over HTTP, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from places import Places

from app.database.engine import Database
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
    assert "link.png lies outside the folder" in refused.json()["detail"]


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
