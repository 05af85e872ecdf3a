"""Stable Diffusion with a LoRA, XL, 3 and DiT over HTTP, with real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from latent_models import LATENT_KINDS
from test_whole_road import follow

from app.config import Settings
from cli.serve import running_server

Make = Callable[[str], Path]
CONFIG = {"timesteps": 2, "projection_dim": 64}


@pytest.fixture(scope="module")
def numbered_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures with the numbers of classes for captions."""
    root = tmp_path_factory.mktemp("classes") / "numbered"
    shutil.copytree(tiny_folder, root)
    lines = (root / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"text": str(number % 6)} for number, line in enumerate(lines)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="module")
def http(
    home: Path,
    latent_model: Make, tiny_lora: Path, tiny_clip: Path, tiny_folder: Path, numbered_folder: Path,
) -> Iterator[httpx.Client]:  # fmt: skip
    models = [latent_model(kind) for kind in LATENT_KINDS]
    settings = Settings(
        home=home,
        model_roots=[*models, tiny_lora, tiny_clip],
        dataset_roots=[tiny_folder, numbered_folder],
    )
    with running_server(settings) as url, httpx.Client(base_url=url, timeout=90) as client:
        for name, folder in (("captioned", tiny_folder), ("numbered", numbered_folder)):
            client.post("/v1/datasets", json={"name": name, "path": str(folder)})
        yield client


def ask(http: httpx.Client, **question: Any) -> dict[str, Any]:
    wait = {"Prefer": "wait=60"}
    if "image" in question:
        file = {"image": ("ring.png", question.pop("image"))}
        answered = http.post("/v1/attributions", files=file, data=question, headers=wait)
    else:
        answered = http.post("/v1/attributions", json=question, headers=wait)
    answer: dict[str, Any] = answered.json()
    assert answer["status"] == "succeeded", answer
    return answer


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_register_index_ask(
    http: httpx.Client, latent_model: Make, tiny_lora: Path, tiny_clip: Path, tiny_folder: Path,
    kind: str,
) -> None:  # fmt: skip
    """An image and a prompt; a prompt's seed gives the same bytes and the same ranking twice."""
    model = {"name": kind, "path": str(latent_model(kind)), "clip_path": str(tiny_clip)}
    if kind == "sd":
        model["lora_path"] = str(tiny_lora)
    registered = http.post("/v1/models", json=model).raise_for_status().json()
    assert registered["follows"] == ("class" if kind == "dit" else "text")
    assert registered["lora"] == model.get("lora_path")
    dataset = "numbered" if kind == "dit" else "captioned"
    wanted = {"model": kind, "dataset": dataset, "config": CONFIG}
    accepted = http.post("/v1/indexes", json=wanted).raise_for_status()
    index = follow(http, accepted.headers["Location"], "state", {"building"})
    assert index["state"] == "ready", index["problem"]
    assert index["config"]["parameters"] == ("lora" if kind == "sd" else "all")

    picture = (tiny_folder / "ada" / "ring.png").read_bytes()
    caption = "4" if kind == "dit" else "ring, ada"
    of_image = ask(http, model=kind, image=picture, caption=caption)["result"]
    assert of_image["candidates"]["corpus"] == 12
    prompt = {"model": kind, "prompt": caption, "seed": 3, "steps": 4}
    first, second = ask(http, **prompt), ask(http, **prompt)
    assert first["id"] != second["id"]
    drawn = [http.get(one["urls"]["image"]).content for one in (first, second)]
    assert drawn[0] == drawn[1]
    rankings = [
        [(row["key"], row["score"]) for row in one["result"]["contributors"]]
        for one in (first, second)
    ]
    assert rankings[0] == rankings[1]
    scale = {"sd": 7.5, "sdxl": 5.0, "sd3": 7.0, "dit": 4.0}[kind]
    assert first["request"]["guidance_scale"] == scale
    other = ask(http, **(prompt | {"seed": 4}))
    assert http.get(other["urls"]["image"]).content != drawn[0]


def test_journey_trak_follows_the_prompts_own_path(
    http: httpx.Client, latent_model: Make, tiny_clip: Path
) -> None:
    """The picture of a prompt is drawn again along its own steps, guidance and seed."""
    for kind in ("sd", "sd3"):
        name = f"{kind}-journey"
        paths = {"path": str(latent_model(kind)), "clip_path": str(tiny_clip)}
        http.post("/v1/models", json={"name": name, **paths}).raise_for_status()
        wanted = {"model": name, "dataset": "captioned", "method": "journey-trak", "config": CONFIG}
        accepted = http.post("/v1/indexes", json=wanted).raise_for_status()
        index = follow(http, accepted.headers["Location"], "state", {"building"})
        assert index["state"] == "ready", index["problem"]
        prompt = {"prompt": "disc, bob", "negative_prompt": "ring, ada", "seed": 2, "steps": 3}
        drawn = ask(http, model=name, method="journey-trak", **prompt)
        assert len(drawn["result"]["contributors"]) == 12


def test_a_long_prompt_stays_out_of_the_log(http: httpx.Client, home: Path) -> None:
    """Libraries warn of what they cut off, word by word."""
    ask(http, model="sd", prompt="a very long and most private sentence " * 9, steps=1)
    assert "private sentence" not in (home / "server.log").read_text()


def test_what_a_model_cannot_follow_is_said_at_the_door(
    http: httpx.Client, latent_model: Make, tiny_clip: Path, tiny_folder: Path
) -> None:
    refused = http.post(
        "/v1/attributions", json={"model": "dit", "prompt": "3", "negative_prompt": "4"}
    )
    assert (refused.status_code, refused.json()["type"]) == (
        422,
        "urn:headwater:problem:prompt-unsupported",
    )


def test_a_class_that_is_none_fails_the_job_with_a_reason(http: httpx.Client) -> None:
    accepted = http.post("/v1/attributions", json={"model": "dit", "prompt": "a cat"})
    ended = follow(http, accepted.headers["Location"], "status", {"queued", "running"})
    assert ended["status"] == "failed"
    assert "none of the model's 1000 classes" in ended["problem"]["detail"]
