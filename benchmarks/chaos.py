"""Break the service while it works, and count what became of every job.

The real API, relay and workers run over a PostgreSQL and a Redis of their own.  While a client
submits jobs over HTTP, repeating each request until it is answered, something is broken every few
seconds, at random and as hard as can be: ``kill -9`` of workers, of single pool processes, of the
relay, of the API; Redis with the loss of all that it held; PostgreSQL in immediate mode.  What was
killed is started again, as an orchestrator would.

At the end every job must have ended with one result, and no execution may have written but the
holder of the last attempt.

    python benchmarks/chaos.py --jobs 200 [--seed 0]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from installation import (
    PostgreSQL,
    Redis,
    add_active_index,
    free_port,
    kill,
    own_servers,
    start,
    start_api,
    start_worker,
    wait_for_http,
)
from PIL import Image
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, JobEvent, OutboxMessage
from app.jobs.kinds import ATTRIBUTION
from cli.serve import Child

WORKERS, PROCESSES = 2, 2
ATTEMPTS = 20
"""Of each job: this is about lost jobs, not about giving up on jobs that kill their workers."""
CALM_SECONDS = (1.0, 4.0)
AWAY_SECONDS = (0.1, 1.5)
LONGEST_SECONDS = 1800
Json = dict[str, Any]


class Programs:
    """What runs, and is started again where it has died."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.workers = [
            start_worker(settings, "chaos_worker", f"worker-{number}", PROCESSES)
            for number in range(WORKERS)
        ]
        self.relay = start(settings, "relay", "workers.relay")
        self.api = start_api(settings, port)

    def every(self) -> list[Child]:
        """All of them."""
        return [*self.workers, self.relay, self.api]

    def revive(self) -> None:
        """Start what has died."""
        for child in self.every():
            if child.process.poll() is not None:
                child.start()


class Disasters:
    """Breaks something, again and again, in a thread; counts what was broken."""

    def __init__(
        self, programs: Programs, postgresql: PostgreSQL, broker: Redis, random_: random.Random
    ) -> None:
        self.programs, self.postgresql, self.broker = programs, postgresql, broker
        self.random, self.counts = random_, Counter[str]()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def stop(self) -> None:
        """No more of them."""
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        kinds: dict[str, tuple[Callable[[], None], int]] = {
            "worker killed": (self._kill_worker, 4),
            "pool process killed": (self._kill_pool_process, 4),
            "relay killed": (lambda: kill(self.programs.relay), 2),
            "API killed": (lambda: kill(self.programs.api), 1),
            "Redis restarted empty": (self._restart_redis, 2),
            "PostgreSQL restarted": (self._restart_postgresql, 2),
        }
        weights = [weight for _, weight in kinds.values()]
        while not self.over.wait(self.random.uniform(*CALM_SECONDS)):
            (kind,) = self.random.choices(list(kinds), weights)
            kinds[kind][0]()
            self.counts[kind] += 1
            print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
            self.over.wait(self.random.uniform(*AWAY_SECONDS))
            self.programs.revive()

    def _kill_worker(self) -> None:
        kill(self.random.choice(self.programs.workers))

    def _kill_pool_process(self) -> None:
        parent = self.random.choice(self.programs.workers).process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        pool = children.read_text().split() if children.exists() else []
        if pool:
            os.kill(int(self.random.choice(pool)), signal.SIGKILL)

    def _restart_redis(self) -> None:
        self.broker.kill()
        self.over.wait(self.random.uniform(*AWAY_SECONDS))
        self.broker.start()

    def _restart_postgresql(self) -> None:
        self.postgresql.stop()
        self.over.wait(self.random.uniform(*AWAY_SECONDS))
        self.postgresql.start()


def submit(url: str, number: int, retries: Counter[str]) -> str:
    """Ask one question until it is accepted; every fourth with a picture."""
    content: Json = {"json": {"prompt": f"picture {number}", "seed": number}}
    if number % 4 == 0:
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), (number % 256, number // 256, 0)).save(picture, "PNG")
        content = {"files": {"image": picture.getvalue()}}
    headers = {"Idempotency-Key": f"chaos-{number}"}
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"{url}/v1/attributions", headers=headers, timeout=20, **content)
        except httpx.TransportError as error:
            retries[type(error).__name__] += 1
        else:
            if answer.is_success:
                return str(answer.json()["id"])
            retries[str(answer.status_code)] += 1
            if answer.status_code < 500:
                raise RuntimeError(f"refused: {answer.text}")
        time.sleep(0.3)
    raise TimeoutError(f"job {number} was never accepted")


def submit_all(url: str, jobs: int, retries: Counter[str]) -> list[str]:
    """All jobs, over about as long as they take to be done."""
    pause = 1.1 / (WORKERS * PROCESSES)
    with ThreadPoolExecutor(8) as pool:
        accepted = []
        for number in range(jobs):
            accepted.append(pool.submit(submit, url, number, retries))
            time.sleep(pause)
        return [job.result() for job in accepted]


def wait_for_all(database: Database, jobs: int) -> None:
    """Wait until that many have ended; the database may be away."""
    query = select(func.count()).where(
        Job.kind == ATTRIBUTION, Job.status.not_in(("queued", "running"))
    )
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        with suppress(OperationalError), database.read() as session:
            ended = session.scalar(query) or 0
            if ended >= jobs:
                return
            print(f"{time.strftime('%H:%M:%S')} {ended} of {jobs} have ended", flush=True)
        time.sleep(2)


def examine(database: Database, home: Path, accepted: list[str]) -> Json:
    """What became of the jobs, from the database and from the traces of their executions."""
    with database.read() as session:
        jobs = session.scalars(select(Job).where(Job.kind == ATTRIBUTION)).all()
        terminal = Counter(
            session.scalars(select(JobEvent.job_id).where(JobEvent.status == "succeeded"))
        )
        messages = session.scalar(select(func.count()).select_from(OutboxMessage))
    began, done = Counter[tuple[str, int]](), Counter[str]()
    for trace in (home / "traces").iterdir():
        for line in trace.read_text().splitlines():
            word, attempt = line.split()
            if word == "began":
                began[trace.name, int(attempt)] += 1
            else:
                done[trace.name] += 1
    succeeded = [job for job in jobs if job.status == "succeeded"]
    return {
        "accepted": len(set(accepted)),
        "in_database": len(jobs),
        "statuses": dict(Counter(job.status for job in jobs)),
        "results_of_another_attempt": sum(
            job.result != {"attempt": job.attempt} for job in succeeded
        ),
        "ended_twice": sum(count > 1 for count in terminal.values()),
        "attempts_executed_twice": sum(count > 1 for count in began.values()),
        "executions": began.total(),
        "work_done_again": sum(done.values()) - len(done),
        "attempts": dict(sorted(Counter(job.attempt for job in jobs).items())),
        "messages_left": messages,
    }


def is_kept(found: Json, jobs: int) -> bool:
    """Whether every job ended once."""
    faults = ("results_of_another_attempt", "ended_twice", "attempts_executed_twice")
    counts = (found["accepted"], found["in_database"], found["statuses"].get("succeeded"))
    return counts == (jobs, jobs, jobs) and not any(found[fault] for fault in faults)


def show(content: Json) -> None:
    """Print what was found."""
    table = Table(title=f"chaos, seed {content['seed']}", show_header=False)
    for part in ("disasters", "retries", "found"):
        for name, value in content[part].items():
            table.add_row(part, name.replace("_", " "), str(value))
    Console().print(table)


def drill(jobs: int, seed: int) -> Json:
    """Run everything, with disasters until the last job has ended."""
    with own_servers() as (postgresql, broker, home):
        settings = Settings(
            home=home,
            database_url=postgresql.url,
            broker_url=broker.url,
            lease_seconds=3,
            resend_seconds=3,
            max_attempts=ATTEMPTS,
        )
        database = Database(settings.database_url)
        add_active_index(database)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        programs = Programs(settings, port)
        try:
            wait_for_http(f"{url}/livez")
            started = time.monotonic()
            retries = Counter[str]()
            disasters = Disasters(programs, postgresql, broker, random.Random(seed))
            try:
                accepted = submit_all(url, jobs, retries)
                wait_for_all(database, jobs)
                seconds = time.monotonic() - started
            finally:
                disasters.stop()
            found = examine(database, home, accepted)
        finally:
            for child in programs.every():
                kill(child)
            database.close()
    return {
        "command": f"python benchmarks/chaos.py --jobs {jobs} --seed {seed}",
        "jobs": jobs,
        "seed": seed,
        "seconds": round(seconds, 1),
        "disasters": dict(disasters.counts),
        "retries": dict(retries),
        "found": found,
        "kept": is_kept(found, jobs),
    }


def main() -> None:
    """Run the drill, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/chaos.json")
    arguments = parser.parse_args()
    content = drill(arguments.jobs, arguments.seed)
    show(content)
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    if not content["kept"]:
        sys.exit("the service has not kept its word")


if __name__ == "__main__":
    main()
