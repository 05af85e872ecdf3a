"""Every command and every piece of Python in the documentation does what the page says.

Each page is worked through from its top by a reader of its own.  What is not typed is listed here,
with the reason; what is made smaller too, so that hours become seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from documented import blocks, commands, spoken
from PIL import Image
from programs import free_port
from signing_identity import Identity
from standardwebhooks import Webhook
from typed_commands import Reader, served
from typer.core import TyperCommand, TyperGroup

from app.config import Settings
from cli.main import app
from headwater_client import AsyncClient, Client, HeadwaterError

QUICK = "--timesteps 2 --projection-dim 64"
LESS = f"--subsets 3 --training-seeds 1 --loss-timesteps 2 --method das {QUICK}"

NOT_TYPED = {
    "README.md": {
        "make demo": "six minutes; benchmarks/newcomer.py times it in a fresh clone",
        "make test": "it is what runs here",
        "headwater serve": "it runs while the page is worked through",
    },
    "docs/index.md": {
        "git clone https://github.com/headwater/headwater && cd headwater": "this is a clone",
        "make demo": "six minutes; benchmarks/newcomer.py times it in a fresh clone",
    },
    "docs/start.md": {
        "git clone https://github.com/headwater/headwater && cd headwater": "this is a clone",
        "make demo": "six minutes; benchmarks/newcomer.py times it in a fresh clone",
        "source .venv/bin/activate": "the environment is active",
        "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K open_clip_config.json"
        " open_clip_model.safetensors --local-dir clip": "600 MB from the internet",
        "headwater serve": "it runs while the page is worked through",
    },
    "docs/api.md": {"pip install ./client": "the tests are installed with it"},
    "client/README.md": {"pip install ./client": "the tests are installed with it"},
    "docs/contributing.md": {
        "make test": "it is what runs here",
        "make lint": "make test begins with it",
        "make docs": "test_documentation.py builds the site",
    },
}
STUDIES = "benchmarks/"
"""What makes the studies' models: hours of training, of which the results are in the repository."""


def left_out(page: str) -> frozenset[str]:
    studies = {
        command
        for block in blocks("sh")
        if block.page == page
        for command in commands(block)
        if STUDIES in command
    }
    return frozenset(NOT_TYPED.get(page, {})) | studies


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path, tiny_clip: Path) -> Path:
    """Where a reader works: pictures, a CLIP, one picture to ask about."""
    shutil.copytree(tiny_folder, tmp_path / "pictures")
    shutil.copytree(tiny_clip, tmp_path / "clip")
    shutil.copy(tiny_folder / "ada" / "ring.png", tmp_path / "picture.png")
    return tmp_path


@contextmanager
def reading(
    page: str,
    folder: Path,
    identity: Identity | None = None,
    *,
    put_in: Mapping[str, str] | None = None,
    refused: Mapping[str, int] | None = None,
) -> Iterator[Reader]:
    """A reader of a page, with a server that may read the folder."""
    settings = Settings(home=folder / "var", model_roots=[folder], dataset_roots=[folder])
    if identity is not None:
        certificate, key = identity.write(folder)
        settings.c2pa_certificate, settings.c2pa_private_key = certificate, key
    with served(folder, settings) as (url, environment):
        yield Reader(folder, url, environment, put_in or {}, refused or {}, left_out(page))


def work_through(page: str, reader: Reader) -> None:
    """From the top of the page to its end."""
    for block in blocks("sh", "python"):
        if block.page == page:
            if block.language == "python":
                reader.names.setdefault("client", None)
                with Client(reader.url) as client:
                    reader.names["client"] = client
                    reader.follow(block)
            else:
                reader.follow(block)


def test_what_is_not_typed_still_stands_there() -> None:
    shown = {(block.page, command) for block in blocks("sh") for command in commands(block)}
    gone = [(page, command) for page, some in NOT_TYPED.items() for command in some]
    assert set(gone) <= shown


def test_every_page_with_commands_is_worked_through() -> None:
    """A new page needs a test below."""
    pages = {block.page for block in blocks("sh", "python", "bash", "shell", "console")}
    tested = {
        name.removeprefix("test_page_") for name in globals() if name.startswith("test_page_")
    }
    named = {
        page.removeprefix("docs/").removesuffix(".md").replace("/", "_").lower() for page in pages
    }
    assert named == tested


def test_commands_in_running_text_exist() -> None:
    """Their words and options; what stands for something is not looked at."""
    whole = typer.main.get_command(app)
    for page, command in spoken():
        known: object = whole
        for word in command.split()[1:]:
            if isinstance(known, TyperGroup) and not word.startswith("-"):
                if word.isupper() or word == "…":  # `headwater COMMAND --help`
                    break
                assert word in known.commands, (page, command)
                known = known.commands[word]
            elif word.startswith("--") and isinstance(known, TyperCommand | TyperGroup):
                options = {
                    name
                    for option in known.params
                    for name in (*option.opts, *option.secondary_opts)
                }
                assert word in options | {"--help"}, (page, command)


def test_page_readme(folder: Path, recipe_model: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder / "painter")
    shutil.copytree(recipe_model, folder / "model")
    put_in = {
        "evaluate lds --model DIR --data DIR --queries DIR": "evaluate lds --model model"
        f" --data pictures --queries pictures {LESS}",
        "index --model DIR --clip DIR --data DIR": "index --model painter --clip clip"
        f" --data pictures {QUICK}",
        "scores --model DIR --data DIR --queries DIR": "scores --model painter --data pictures"
        f" --queries pictures {QUICK}",
    }
    with reading("README.md", folder, put_in=put_in) as reader:
        work_through("README.md", reader)
    assert numpy.load(folder / "scores.npz")["scores"].shape == (12, 12)
    assert (folder / "lds.md").is_file()


def test_page_index(folder: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder / "painter")
    with reading(
        "docs/index.md", folder, put_in={"--data pictures": f"--data pictures {QUICK}"}
    ) as reader:
        work_through("docs/index.md", reader)


def test_page_start(folder: Path) -> None:
    """A reader without a model trains one on the way."""
    with reading("docs/start.md", folder) as reader:
        work_through("docs/start.md", reader)
    assert (folder / "painter" / "model_index.json").is_file()
    assert (folder / "drawn" / "00000.png").is_file()


def test_page_data(folder: Path) -> None:
    rows = map(json.loads, (folder / "pictures" / "metadata.jsonl").read_text().splitlines())
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "0.tar", "w") as archive:
        for number, row in enumerate(rows):
            said = {"artist": row["creator"], "rights": row["licence"]}
            (folder / "said.json").write_text(json.dumps(said))
            archive.add(folder / "pictures" / row["file_name"], f"{number}.png")
            archive.add(folder / "said.json", f"{number}.json")
    whole, torn = (folder / "picture.png").read_bytes(), b""
    pq.write_table(pa.table({"image": [whole, torn]}), folder / "paintings.parquet")
    with reading("docs/data.md", folder, put_in={'"/datasets/': f'"{folder}/'}) as reader:
        work_through("docs/data.md", reader)
    assert len((folder / "refused.jsonl").read_text().splitlines()) == 1
    assert (folder / "saved" / "state.json").is_file()


def test_page_api(folder: Path, tiny_model: Path, identity: Identity) -> None:
    shutil.copytree(tiny_model, folder / "painter")
    art = folder / "art" / "cats"
    art.mkdir(parents=True)
    rows = []
    for number, creator in enumerate(["Ada Example", "Bob Example"]):
        Image.new("RGB", (16, 16), (40, 90, 60 * number)).save(art / f"{number}.png")
        rows.append({"file_name": f"cats/{number}.png", "creator": creator})
    (folder / "art" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    refused = {
        "/retry": 409,  # its job has not failed
        "-X DELETE localhost:8000/v1/indexes/idx_…": 409,  # attributions were asked of it
    }
    with reading(
        "docs/api.md", folder, identity, put_in={'"/datasets/': f'"{folder}/'}, refused=refused
    ) as reader:
        index = f"headwater index --model painter --clip clip --data pictures {QUICK} --json"
        reader.type(index)
        secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
        body = json.dumps({
            "type": "attribution.succeeded",
            "timestamp": "2026-11-25T03:21:29.541109+00:00",
            "data": {"id": "atr_1", "status": "succeeded", "url": "/v1/attributions/atr_1"},
        })  # fmt: skip
        at = datetime.now(UTC)
        reader.names |= {
            "secret": secret,
            "request_body": body.encode(),
            "request_headers": {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(secret).sign("msg_1", at, body),
            },
            "seen_before": lambda event_id: True,
        }
        work_through("docs/api.md", reader)
    assert (folder / "signed.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "atr.c2pa").stat().st_size > 1000
    assert json.loads((folder / "receipt.json").read_text())["contributors"]


def test_page_client_readme(folder: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder / "painter")
    with reading("client/README.md", folder) as reader:
        reader.type(f"headwater index --model painter --clip clip --data pictures {QUICK}")
        reader.ids["hw"] = "hw_0"  # an installation without keys asks for none
        reader.environment = {**reader.environment, "HEADWATER_SERVER": reader.url}
        reader.names |= {
            "AsyncClient": lambda: AsyncClient(reader.url),
            "HeadwaterError": HeadwaterError,
            "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZg==",
            "remember": None,
        }
        work_through("client/README.md", reader)
        forged = SimpleNamespace(body=b"{}", headers={})
        assert reader.names["receive"](forged) == 400


def test_page_evaluation(folder: Path) -> None:
    shutil.copytree(folder / "pictures", folder / "images")
    shutil.copytree(folder / "pictures" / "bob", folder / "held-out")
    put_in = {
        "--data images --out model": "--data images --out model --epochs 4",
        "--count 200": "--count 3",
        "--truth truth.npz": f"--truth truth.npz {LESS}",
        "--out counterfactual.json": "--out counterfactual.json --remove 2 --count 2"
        f" --random 1 {QUICK}",
        "--model NAME --data NAME": "--model model --data images",
    }
    with reading("docs/evaluation.md", folder, put_in=put_in) as reader:
        for block in blocks("sh"):
            if block.page == "docs/evaluation.md":
                if "evaluate record" in block.text:  # to a server that knows model and images
                    reader.type(f"headwater index --model model --clip clip --data images {QUICK}")
                reader.follow(block)
    for name in ("lds.md", "lds.png", "counterfactual.md", "counterfactual.png"):
        assert (folder / name).is_file()


def test_page_models(folder: Path, latent_model: Callable[[str], Path], tiny_lora: Path) -> None:
    shutil.copytree(latent_model("sd"), folder / "stable-diffusion")
    shutil.copytree(tiny_lora, folder / "ada-lora")
    put_in = {"--clip CLIP --data pictures": f"--clip clip --data pictures {QUICK}"}
    with reading("docs/models.md", folder, put_in=put_in) as reader:
        work_through("docs/models.md", reader)


def test_page_scores(folder: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder / "MODEL")
    shutil.copytree(folder / "pictures", folder / "TRAIN")
    shutil.copytree(folder / "pictures", folder / "PICTURES")
    with reading("docs/scores.md", folder) as reader:
        reader.names["numpy"] = numpy
        work_through("docs/scores.md", reader)
        assert reader.names["file"]["scores"].shape == (12, 12)


def test_page_contributing() -> None:
    for block in blocks("sh"):
        if block.page == "docs/contributing.md":
            assert set(commands(block)) == left_out(block.page)


@pytest.mark.parametrize("service", ["servers"], indirect=True)
def test_page_operations(service: Settings, folder: Path) -> None:
    """Programs that do not end by themselves are at work after some seconds."""
    put_in = {
        "postgresql+psycopg://…": service.database_url,
        "redis://…": service.broker_url,
        "0.0.0.0 8000": f"127.0.0.1 {free_port()}",
        "-Q headwater-gpu": f"-Q {service.gpu_queue}",
        "-Q headwater-cpu": f"-Q {service.cpu_queue}",
    }
    reader = Reader(folder, "http://127.0.0.1:1", service.to_environment(), put_in)
    ends = ("export ", "headwater migrate")
    for block in blocks("sh"):
        if block.page == "docs/operations.md":
            for command in commands(block):
                if command.startswith(ends):
                    reader.type(command)
                else:
                    works_for_a_while(reader, command)


def works_for_a_while(reader: Reader, command: str) -> None:
    line = reader.filled_in(command)
    finished = reader.bash(f"timeout --kill-after=20 8 {line}")
    assert finished.returncode in (0, 124), finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.returncode == 124, f"{command} ended by itself: {finished.stderr}"


@pytest.fixture(scope="session")
def recipe_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose training can be repeated."""
    out = tmp_path_factory.mktemp("recipe") / "model"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "cli.main",
            "train",
            "--data",
            tiny_folder,
            "--out",
            out,
            "--epochs",
            "4",
        ],
        check=True,
    )
    return out
