"""Over HTTP, with real processes: register, index, ask about a picture and a prompt."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import c2pa
import httpx
import jsonschema
from signing_identity import Identity

from app.config import Settings
from attribution.index.manifest import Manifest
from cli.serve import running_server

SECONDS = 60


def follow(http: httpx.Client, url: str, state: str, unfinished: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = http.get(url).raise_for_status().json()
        if found[state] not in unfinished:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{url} did not end: {found}")


def walk(http: httpx.Client, folder: Path, model: Path, clip: Path) -> tuple[str, dict[str, Any]]:
    """Ask about a picture and a prompt; return the index and the first answer."""
    dataset = {"name": "shapes", "path": str(folder)}
    assert http.post("/v1/datasets", json=dataset).status_code == 201
    assert http.post("/v1/datasets", json=dataset).status_code == 200
    registered = {"name": "tiny", "path": str(model), "clip_path": str(clip)}
    assert http.post("/v1/models", json=registered).status_code == 201
    assert http.post("/v1/models", json=registered).status_code == 200

    wanted = {
        "model": "tiny",
        "dataset": "shapes",
        "config": {"timesteps": 2, "projection_dim": 64},
    }
    accepted = http.post("/v1/indexes", json=wanted)
    assert accepted.status_code == 202
    assert accepted.headers["Retry-After"]
    index = follow(http, accepted.headers["Location"], "state", {"building"})
    assert (index["state"], index["active"], index["problem"]) == ("ready", True, None)
    again = http.post("/v1/indexes", json=wanted)
    assert (again.status_code, again.json()["id"]) == (200, index["id"])

    picture = (folder / "ada" / "ring.png").read_bytes()
    accepted = http.post(
        "/v1/attributions",
        files={"image": ("ring.png", picture)},
        data={"caption": "ring, ada", "top_k": "3"},
    )
    assert accepted.status_code == 202
    asked = follow(http, accepted.headers["Location"], "status", {"queued", "running"})
    assert asked["status"] == "succeeded", asked["problem"]
    result = asked["result"]
    assert len(result["contributors"]) == 3
    assert [row["std_error"] > 0 for row in result["by_creator"]] == [True, True]
    assert {conflict["kind"] for conflict in result["licence_conflicts"]} == {"share-alike"}
    assert 0 <= result["unattributed_share"] <= 1
    assert asked["result"]["contributors"][0]["creator"] in {"Ada Example", "Bob Example"}
    assert {owner["creator"] for owner in asked["result"]["by_creator"]} == {
        "Ada Example",
        "Bob Example",
    }
    assert http.get(asked["urls"]["image"]).content.startswith(b"\x89PNG")

    exports(http, asked)

    drawn = http.post(
        "/v1/attributions",
        json={"prompt": "disc, bob", "steps": 2, "candidates": "clip", "candidate_count": 5},
        headers={"Prefer": "wait=30"},
    )
    assert drawn.status_code == 200, drawn.text
    answer = drawn.json()
    assert answer["status"] == "succeeded", answer["problem"]
    assert answer["result"]["candidates"] == {
        "strategy": "clip",
        "considered": 5,
        "corpus": 12,
        "exhaustive": False,
    }
    assert http.get(answer["urls"]["image"]).content.startswith(b"\x89PNG")

    unserved = http.post("/v1/attributions", json={"prompt": "disc", "method": "journey-trak"})
    assert unserved.status_code == 409
    assert unserved.json()["detail"].startswith("build one at /v1/indexes with method journey-trak")
    compare(http, picture)
    return index["id"], asked


def compare(http: httpx.Client, picture: bytes) -> None:
    """Another method's index stands beside the active one, and answers when it is asked."""
    wanted = {
        "model": "tiny",
        "dataset": "shapes",
        "method": "journey-trak",
        "config": {"timesteps": 2, "projection_dim": 64, "damping_rule": "directions"},
    }
    accepted = http.post("/v1/indexes", json=wanted)
    index = follow(http, accepted.headers["Location"], "state", {"building"})
    assert (index["state"], index["active"]) == ("ready", False), index["problem"]
    question = {"prompt": "disc, bob", "seed": 3, "steps": 3, "method": "journey-trak"}
    answer = http.post("/v1/attributions", json=question, headers={"Prefer": "wait=30"}).json()
    assert answer["status"] == "succeeded", answer["problem"]
    assert (answer["index"], answer["result"]["rests_on"]["method"]) == (
        index["id"],
        "journey-trak",
    )
    uploaded = http.post(
        "/v1/attributions",
        files={"image": ("ring.png", picture)},
        data={"method": "journey-trak"},
    )
    assert (uploaded.status_code, uploaded.json()["title"]) == (
        422,
        "The method needs a picture that the model draws",
    )


def exports(http: httpx.Client, asked: dict[str, Any]) -> None:
    """The answer signed, as linked data, and as a receipt."""
    deadline = time.monotonic() + SECONDS
    while (signed := http.get(asked["urls"]["c2pa"])).status_code == 404:
        assert signed.json()["type"] == "urn:headwater:problem:c2pa-not-ready"
        assert time.monotonic() < deadline, signed.text
        time.sleep(0.2)
    with c2pa.Reader("image/png", io.BytesIO(signed.content)) as reader:
        assert reader.get_validation_state() == "Valid"
        data = json.loads(reader.json())["manifests"].values()
    (said,) = (
        part["data"]
        for manifest in data
        for part in manifest["assertions"]
        if part["label"] == "org.example.training-attribution"
    )
    jsonschema.validate(said, http.get("/schemas/training-attribution/1").json())
    assert said["contributors"][0]["rank"] == 1
    sidecar = http.get(asked["urls"]["c2pa"], params={"form": "sidecar"})
    assert sidecar.headers["content-type"] == "application/c2pa"
    picture = http.get(asked["urls"]["image"]).content
    with c2pa.Reader("image/png", io.BytesIO(picture), manifest_data=sidecar.content) as reader:
        assert reader.get_validation_state() == "Valid"
    assert http.get(asked["urls"]["prov"]).headers["content-type"] == "application/ld+json"
    receipt = http.get(asked["urls"]["receipt"]).json()
    assert receipt["contributors"][0]["key"] == asked["result"]["contributors"][0]["key"]


def take_down(http: httpx.Client, settings: Settings, index_id: str, asked: dict[str, Any]) -> None:
    """What ranked first leaves the catalogue, the index's files, old answers and new ones."""
    first = asked["result"]["contributors"][0]
    sample = http.get("/v1/samples", params={"creator": first["creator"]}).json()["items"][0]
    image = f"/v1/datasets/shapes/samples/{first['key']}/image"
    thumbnail = image.replace("/image", "/thumbnail")
    assert http.get(sample["thumbnail"]).headers["content-type"] == "image/png"
    assert http.get(thumbnail).status_code == 200
    kept = {path.name for path in (settings.home / "thumbnails").rglob("*.png")}

    wanted = {"dataset": "shapes", "keys": [first["key"]], "reason": "asked by the creator"}
    accepted = http.post("/v1/takedowns", json=wanted)
    assert (accepted.status_code, accepted.json()["images"]) == (202, 1)
    assert http.get(image).status_code == http.get(thumbnail).status_code == 410
    ended = follow(http, accepted.headers["Location"], "status", {"queued", "running"})
    assert ended["status"] == "succeeded", ended["problem"]

    names = [file.read_text() for file in (settings.home / "indexes").rglob("samples.json")]
    assert len(names) == 2  # both indexes of the dataset, and no older version of either
    assert not [listed for listed in names if first["key"] in listed]
    directory = next((settings.home / "indexes").glob(f"{index_id}*"))
    assert Manifest.read(directory).samples == 11
    Manifest.read(directory).verify(directory)
    old = http.get(asked["urls"]["self"]).json()["result"]
    assert first["key"] not in json.dumps(old)
    rewritten = http.get(asked["urls"]["receipt"]).json()
    assert (rewritten["redacted"], len(rewritten["contributors"])) == (1, 2)
    assert old["redacted"] == 1
    again = http.post(
        "/v1/attributions",
        json={"prompt": "ring, ada", "steps": 2},
        headers={"Prefer": "wait=30"},
    ).json()
    assert again["status"] == "succeeded", again["problem"]
    assert first["key"] not in json.dumps(again["result"])
    assert again["result"]["candidates"]["corpus"] == 11
    assert {path.name for path in (settings.home / "thumbnails").rglob("*.png")} < kept


def nothing_private(settings: Settings) -> None:
    """Every line of every process is JSON, and none holds what was sent or where it lay."""
    lines = (settings.home / "server.log").read_text().splitlines()
    # Celery says goodbye in its own words.
    told = [json.loads(line) for line in lines if line and not line.startswith("worker: ")]
    assert {"api", "worker", "relay"} <= {line["program"] for line in told}
    worked = next(line for line in told if line["event"] == "the job succeeded")
    assert {"job", "kind", "attempt", "request_id", "timestamp", "level"} <= set(worked)
    asked = [line for line in told if line.get("route") == "/v1/attributions"]
    assert worked["request_id"] in {line["request_id"] for line in told if line.get("route")}
    assert {line["status"] for line in asked} >= {202, 200, 409}
    text = "\n".join(lines)
    sent = ("ring, ada", "disc, bob", "ring.png", "Ada Example", "asked by the creator")
    for private in (*sent, *map(str, (*settings.model_roots, *settings.dataset_roots))):
        assert private not in text


def test_the_whole_road(
    service: Settings,
    tiny_folder: Path,
    tiny_model: Path,
    tiny_clip: Path,
    identity: Identity,
    tmp_path: Path,
) -> None:
    roots = {"model_roots": [tiny_model, tiny_clip], "dataset_roots": [tiny_folder]}
    certificate, key = identity.write(tmp_path)
    signing = {"c2pa_certificate": certificate, "c2pa_private_key": key}
    changed = {**roots, **signing, "c2pa_domain": "org.example"}
    settings = service.model_copy(update={**changed, "shard_size": 5, "concurrency": 2})
    with (
        running_server(settings) as url,
        httpx.Client(base_url=url, timeout=70) as http,
    ):
        index_id, asked = walk(http, tiny_folder, tiny_model, tiny_clip)
        take_down(http, settings, index_id, asked)
        measured = http.get("/metrics").text
        for stage in ("drawing", "features", "search"):
            labels = f'{{kind="attribution",stage="{stage}"}}'
            assert f"headwater_stage_seconds_count{labels}" in measured
        assert 'headwater_events_total{event="attribution succeeded"}' in measured
    nothing_private(settings)
