"""An installation to be measured or broken: PostgreSQL and Redis of its own, and real programs.

Nothing here touches servers that others use: both have free ports, and all that they keep lies in a
temporary folder.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import Dataset, IndexVersion, Model
from app.jobs.index_builds import mark_ready
from attribution.index.config import IndexConfig
from cli.serve import Child

ROOT = Path(__file__).parent.parent
SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens to at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Wait for something that should come soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never came: {what}")
        time.sleep(0.05)


class PostgreSQL:
    """A cluster in a folder; it will not run as root, so root's belongs to ``postgres``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "cluster", free_port()
        found = shutil.which("pg_ctl") or max(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"))
        self.programs = Path(found).parent
        self.prefix = list[str]()
        if os.geteuid() == 0:
            self.prefix = ["runuser", "-u", "postgres", "--"]
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--auth=trust", "--username=postgres", "--pgdata", str(self.folder))
        self.start()

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and recover from what happened before."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = str(self.folder.parent / "log")
        self._control("start", "--wait", "--options", options, "--log", log)

    def stop(self) -> None:
        """Stop it as a crash would: connections are cut, nothing is written."""
        self._control("stop", "--mode=immediate")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "--pgdata", str(self.folder), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.programs / program), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)


class Redis:
    """A server that keeps nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """For Celery."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty."""
        nothing_kept = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", *nothing_kept]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
        wait_until(self._answers, "Redis")

    def kill(self) -> None:
        """``kill -9``: what it held is lost."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.port, socket_timeout=1).ping())
        except redis.RedisError:
            return False


@contextmanager
def own_servers() -> Iterator[tuple[PostgreSQL, Redis, Path]]:
    """A PostgreSQL, a Redis and a home for Headwater, gone afterwards, also after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # the cluster's owner passes through
        (root / "postgresql").mkdir()
        postgresql, broker = PostgreSQL(root / "postgresql"), Redis()
        try:
            yield postgresql, broker, root / "home"
        finally:
            broker.kill()
            postgresql.stop()


def start(settings: Settings, name: str, *arguments: str) -> Child:
    """``python -m …`` with these settings; what it says goes to a file in the home."""
    environment = os.environ | settings.to_environment()
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'benchmarks'}"
    settings.home.mkdir(parents=True, exist_ok=True)
    log = (settings.home / f"{name}.log").open("ab")  # for every start of the child
    return Child(name, [sys.executable, "-m", *arguments], environment, log)


def start_api(settings: Settings, port: int, application: str = "app.main:create_app") -> Child:
    """An HTTP server on a port."""
    address = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    return start(settings, "api", "uvicorn", "--factory", application, *address)


def start_worker(settings: Settings, application: str, name: str, processes: int) -> Child:
    """A Celery worker for the queue of models."""
    pool = ["--pool", "prefork", "--concurrency", str(processes), "--loglevel", "INFO"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", name]
    queue = ["-Q", settings.gpu_queue]
    return start(settings, name, "celery", "-A", application, "worker", *queue, *pool, *alone)


def kill(child: Child) -> None:
    """``kill -9`` of a program and all that it has started."""
    if child.process.poll() is None:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def wait_for_http(url: str) -> None:
    """Wait until something answers there."""

    def answers() -> bool:
        try:
            return httpx.get(url, timeout=2).is_success
        except httpx.TransportError:
            return False

    wait_until(answers, url)


def add_active_index(database: Database) -> None:
    """Migrate, and pretend that an index was built: questions are accepted then."""
    upgrade(database)
    with database.write() as session:
        session.add(Dataset(id="ds_1", name="data", path="/", digest="", sample_count=1))
        model = {"directory": "/", "clip_directory": "/", "digest": "", "clip_digest": ""}
        text_to_image = "PixelTextToImagePipeline"
        session.add(Model(id="mdl_1", name="model", pipeline_class=text_to_image, **model))
        session.flush()
        session.add(
            IndexVersion(
                id="idx_1",
                model_id="mdl_1",
                dataset_id="ds_1",
                config=IndexConfig().to_dict(),
                config_digest="",
                shard_size=1,
                directory="indexes/idx_1",
            )
        )
        session.flush()
        mark_ready(session, "idx_1", "")
