"""One embedded installation with an index, as a client's user meets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from signing_identity import Identity

from app.config import Settings
from cli.serve import running_server
from headwater_client import Client
from headwater_client.models import Index

KNOBS = {"timesteps": 2, "projection_dim": 64}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests put datasets of their own."""
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    folders: Path,
    tiny_folder: Path,
    tiny_model: Path,
    tiny_clip: Path,
    identity: Identity,
) -> Iterator[str]:
    """The address of a real server with real workers, that may speak with this machine."""
    certificate, key = identity.write(tmp_path_factory.mktemp("identity"))
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        model_roots=[tiny_model, tiny_clip],
        dataset_roots=[tiny_folder, folders],
        c2pa_certificate=certificate,
        c2pa_private_key=key,
        c2pa_domain="org.example",
        outbound_private=True,
    )
    with running_server(settings) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as opened:
        yield opened


@pytest.fixture(scope="session")
def index(server: str, tiny_folder: Path, tiny_model: Path, tiny_clip: Path) -> Index:
    """A ready and active index, registered and built by the client."""
    with Client(server) as client:
        dataset = client.datasets.register("shapes", tiny_folder)
        model = client.models.register("tiny", tiny_model, tiny_clip)
        built = client.indexes.build(model, dataset, config=KNOBS)
        return client.indexes.wait(built, timeout=120)


@pytest.fixture
def proxy(server: str) -> Iterator[FaultyProxy]:
    """A proxy before the server that does as it is told."""
    with FaultyProxy(server) as between:
        yield between
