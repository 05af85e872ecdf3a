"""The command and the client against a server that runs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from programs import wait_for

from app.config import Settings
from attribution.denoisers import Denoiser
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.lds import Estimate, Yardsticks
from attribution.evaluation.measure import Case, Result
from attribution.evaluation.report import LdsReport
from attribution.evaluation.subsets import draw_subsets
from attribution.image_set import ImageSet
from cli.client import Client, ServerError
from cli.serve import running_server

QUICK = ("--timesteps", "2", "--projection-dim", "64")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, tiny_folder: Path, tiny_model: Path) -> Iterator[str]:
    roots = [tiny_folder.parent]
    with running_server(Settings(home=home, model_roots=roots, dataset_roots=roots)) as url:
        yield url


@pytest.fixture(scope="module")
def indexed(server: str, tiny_folder: Path, tiny_model: Path, tiny_clip: Path) -> str:
    """The server, once `headwater index` has run on it."""
    folders = ("--model", tiny_model, "--clip", tiny_clip, "--data", tiny_folder)
    finished = headwater("index", *folders, "--name", "tiny", *QUICK, server=server)
    assert finished.returncode == 0, finished.stderr
    assert "headwater attribute PICTURE --model tiny" in finished.stdout
    return server


def headwater(
    *arguments: object, server: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"HEADWATER_SERVER": server, "COLUMNS": "160"} | environment,
        check=False,
    )


def test_a_picture(indexed: str, tiny_folder: Path) -> None:
    picture = tiny_folder / "ada" / "ring.png"
    finished = headwater(
        "attribute", picture, "--caption", "ring, ada", "--top-k", 3, server=indexed
    )
    assert finished.returncode == 0, finished.stderr
    assert "Influence by licence" in finished.stdout
    assert "all 12 training images" in finished.stdout


def test_the_doctor_finds_nothing_and_then_something(indexed: str, home: Path) -> None:
    def examine(**environment: str) -> tuple[int, dict[str, tuple[str, str]]]:
        finished = headwater(
            "doctor", "--json", server=indexed, HEADWATER_HOME=str(home), **environment
        )
        found = json.loads(finished.stdout)
        return finished.returncode, {row["what"]: (row["state"], row["told"]) for row in found}

    code, found = examine()
    assert (code, {state for state, _ in found.values()}) == (0, {"ok"}), found
    (index,) = (what for what in found if what.startswith("index idx_"))
    assert {"database", "broker", "programs", "model tiny", "outbox", index} <= set(found)
    code, found = examine(HEADWATER_DATABASE_URL="postgresql+psycopg://127.0.0.1:1/none")
    assert (code, found["database"][0]) == (1, "failure")
    code, found = examine(HEADWATER_BROKER_URL="redis://127.0.0.1:1/0", HEADWATER_DEVICE="cuda")
    assert (code, found["broker"][0]) == (1, "failure")
    facts = next((home / "indexes").glob("*/facts.safetensors"))
    whole = facts.read_bytes()
    facts.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        code, found = examine()
    finally:
        facts.write_bytes(whole)
    assert (code, found[index][0]) == (1, "failure")
    assert "damaged" in found[index][1]


def test_a_receipt_is_computed_again(
    indexed: str, home: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    def verify(receipt: object, *options: object) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "receipt.json"
        path.write_text(receipt if isinstance(receipt, str) else json.dumps(receipt))
        return headwater("verify", path, *options, server=indexed, HEADWATER_HOME=str(home))

    with Client(indexed) as client:
        picture = tiny_folder / "ada" / "ring.png"
        asked = client.attribute_image(picture, caption="ring, ada")
        drawn = client.attribute_prompt("disc, bob", seed=3, steps=2)
        receipts = [client.get_receipt(answer["id"]) for answer in (asked, drawn)]
    for receipt in receipts:
        same = verify(receipt)
        assert same.returncode == 0, same.stderr
        assert "computed again" in same.stdout
    forged = json.loads(json.dumps(receipts[0]))
    forged["contributors"][0]["score"] *= 2
    differs = verify(forged)
    assert (differs.returncode, "has score" in differs.stderr) == (1, True), differs.stderr
    older = receipts[0] | {"rests_on": receipts[0]["rests_on"] | {"index_version": "0" * 64}}
    assert "another one" in verify(older).stderr
    wrong = verify(receipts[0], "--picture", picture)
    assert "is not the picture of the receipt" in wrong.stderr
    for nonsense in ("", "[]", "{}", json.dumps({"schema": receipts[0]["schema"]})):
        refused = verify(nonsense)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert "is no receipt" in refused.stderr


def test_answers_carry_what_was_measured(
    indexed: str, tiny_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    keys = [sample.key for sample in ImageSet(tiny_folder).samples]
    members = draw_subsets(["x"] * len(keys), 3, 0.5, 0)
    truth = GroundTruth.planned(keys, ["held/a.png"], members, [0], {"training": {"trainer": "x"}})
    truth.losses[:] = 0.5
    case = Case.of("das", timesteps=2, projection_dim=64)
    measured = Result(
        case, "held", "label-free", 0.03, Estimate(0.5, np.array([0.4, 0.6])), Yardsticks(0.4, 0.6)
    )
    report = LdsReport("2026-11-24", Denoiser.load(tiny_model).digest, truth, [measured])
    file = tmp_path / "lds.json"
    file.write_text(json.dumps(report.to_dict()))
    names = ("--model", "tiny", "--data", "tiny")
    finished = headwater("evaluate", "record", file, *names, server=indexed)
    assert finished.returncode == 0, finished.stderr
    assert "1 measured score" in finished.stdout
    picture = tiny_folder / "ada" / "ring.png"
    asked = headwater("attribute", picture, "--json", server=indexed)
    (evidence,) = json.loads(asked.stdout)["evidence"]
    assert (evidence["method"], evidence["lds"], evidence["rho"]) == ("das", 0.5, 0.4)

    file.write_text("[]")
    refused = headwater("evaluate", "record", file, *names, server=indexed)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


def test_a_prompt_as_json(indexed: str, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    arguments = ("--prompt", "disc, bob", "--seed", 1, "--json", "--save", drawn)
    finished = headwater("attribute", *arguments, server=indexed)
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout)
    assert answer["id"].startswith("atr_")
    assert len(answer["contributors"]) == 10
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_refusals_are_the_problems_in_one_line(indexed: str, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    folders = ("--model", tmp_path / "none", "--clip", tmp_path, "--data", tmp_path / "none")
    for arguments, told in (
        (("attribute", text), "The image's type is not supported"),
        (("attribute", "--prompt", "a cat", "--model", "nobody"), "nobody"),
        (("attribute", "--prompt", "a cat", "--method", "magic"), "method"),
        (("index", *folders), "The path"),
    ):
        finished = headwater(*arguments, server=indexed)
        assert finished.returncode == 1
        (line,) = finished.stderr.splitlines()
        assert told in line


def test_the_client_waits_and_tells_how_far_it_is(indexed: str, tiny_folder: Path) -> None:
    told: list[tuple[str, float]] = []
    with Client(indexed) as client:
        again = client.build_index(
            "tiny", "tiny", {"timesteps": 2, "projection_dim": 64},
            on_progress=lambda stage, fraction: told.append((stage, fraction)),
        )  # fmt: skip
        assert again["state"] == "ready"
        assert told == [("ready", 1.0)]
        told.clear()
        picture = (tiny_folder / "bob" / "disc.png").read_bytes()
        answer = client.attribute_image(
            picture, on_progress=lambda stage, fraction: told.append((stage, fraction))
        )
        assert client.wait(answer["id"]) == answer
        assert told
        assert all(stage and 0 <= fraction <= 1 for stage, fraction in told)
        with pytest.raises(ServerError, match="not found"):
            client.wait("atr_none")


def test_images_of_an_archive_and_what_is_wrong_with_them(
    server: str, tiny_folder: Path, tmp_path: Path
) -> None:
    shard, report = tiny_folder.parent / "shard.tar", tmp_path / "refused.jsonl"
    with tarfile.open(shard, "w") as archive:
        for name in ("disc", "ring"):
            archive.add(tiny_folder / "ada" / f"{name}.png", f"{name}.png")
        archive.add(tiny_folder / "metadata.jsonl", "broken.png")
    asked = ("register", "--data", shard, "--name", "shard")
    refused = headwater(*asked, server=server)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "broken.png: it is no PNG" in refused.stderr
    made = headwater(*asked, "--skip-invalid", "--report", report, server=server)
    assert made.returncode == 0, made.stderr
    assert "2 images, 1 refused" in made.stdout
    (told,) = map(json.loads, report.read_text().splitlines())
    assert told["what"] == "shard.tar/broken.png"
    again = headwater(*asked, "--skip-invalid", "--json", server=server)
    assert json.loads(again.stdout)["sample_count"] == 2
    wrong = headwater(*asked, "--field", "artist", server=server)
    assert (wrong.returncode, "not of the form" in wrong.stderr) == (2, True)
    away = headwater(*asked, server="http://127.0.0.1:1")
    assert "start one with `headwater serve`" in away.stderr


def test_an_index_over_an_archive_is_that_over_its_files(
    indexed: str, tiny_folder: Path, tiny_model: Path, tiny_clip: Path
) -> None:
    """The same pictures, captions and keys' order: the same influence, from a tar."""
    root = tiny_folder.parent / "shards"
    root.mkdir()
    rows = map(json.loads, (tiny_folder / "metadata.jsonl").read_text().splitlines())
    with tarfile.open(root / "0.tar", "w") as archive:
        for row in sorted(rows, key=lambda row: row["file_name"]):
            name = row.pop("file_name")
            said = json.dumps({"artist": row.pop("creator"), **row}).encode()
            archive.add(tiny_folder / name, name)
            member = tarfile.TarInfo(name.replace(".png", ".json"))
            member.size = len(said)
            archive.addfile(member, io.BytesIO(said))
    folders = ("--model", tiny_model, "--clip", tiny_clip, "--data", root)
    fields = ("--name", "shards", "--field", "creator=artist")
    built = headwater("index", *folders, *fields, *QUICK, "--json", server=indexed)
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["state"] == "ready"
    picture = tiny_folder / "ada" / "ring.png"
    with Client(indexed) as client:
        answers = [
            client.attribute_image(picture, caption="ring, ada", model=model, top_k=12)
            for model in ("tiny", "shards")
        ]
    owners = [{row["creator"] for row in answer["contributors"]} for answer in answers]
    assert owners == [{"Ada Example", "Bob Example"}] * 2
    first = answers[1]["contributors"][0]
    assert (first["key"], first["rank"]) == ("0.tar/ada/ring.png", 1)


def test_who_hangs_up_registers_nothing(server: str, tiny_folder: Path) -> None:
    picture = (tiny_folder / "ada" / "ring.png").read_bytes()
    shard = tiny_folder.parent / "large.tar"
    with tarfile.open(shard, "w") as archive:
        for number in range(4000):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    wanted = {"name": "large", "path": str(shard)}
    headers = {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{server}/v1/datasets", json=wanted, headers=headers) as answer:
        assert "progress" in next(answer.iter_lines())
    for _ in range(3):  # what was given up leaves room for others
        finished = headwater("register", "--data", shard, "--name", "large", server=server)
        assert finished.returncode == 0, finished.stderr
        with httpx.Client(base_url=server) as http:
            assert http.get("/v1/datasets/large").json()["sample_count"] == 4000
            assert http.delete("/v1/datasets/large").status_code == 204
    wait_for(lambda: not looking_at_images(), "the end of the programs that look at images")


def looking_at_images() -> list[str]:
    """The processes of this machine that decode training images."""
    return [
        process.name
        for process in Path("/proc").iterdir()
        if process.name.isdecimal() and "check_images" in arguments(process)
    ]


def arguments(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""
