"""Make sure that PostgreSQL and Redis answer, and print where, for ``make test``.

The browser that the page's tests drive is installed too, where it is missing.

    env $(python tests/start_services.py) pytest

Services named by HEADWATER_TEST_DATABASE_URL and HEADWATER_TEST_REDIS_URL are used as they are.
Otherwise those of this machine are, and what it lacks is installed from Debian and started.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis
from browser import CHROMIUM, axe_core

HOST, POSTGRES_PORT, REDIS_PORT = "127.0.0.1", 5432, 6379
SOCKETS = Path("/var/run/postgresql")
# Not database 0, where a developer's own data may be: tests empty theirs.
REDIS_URL = f"redis://{HOST}:{REDIS_PORT}/15"
WAIT_SECONDS = 30


class ServiceError(Exception):
    """A service cannot be had; the text says what to do."""


def main() -> int:
    """Start what is missing and print the two variables."""
    try:
        database_url = os.environ.get("HEADWATER_TEST_DATABASE_URL") or postgres()
        redis_url = os.environ.get("HEADWATER_TEST_REDIS_URL") or running_redis()
        browser()
    except ServiceError as error:
        print(f"start_services: {error}", file=sys.stderr)
        return 1
    print(f"HEADWATER_TEST_DATABASE_URL={database_url}")
    print(f"HEADWATER_TEST_REDIS_URL={redis_url}")
    return 0


def postgres() -> str:
    """The URL of this machine's server, as someone who may create the tests' databases."""
    if not listens(POSTGRES_PORT):
        if not shutil.which("pg_ctlcluster"):
            install("postgresql")
        if not listens(POSTGRES_PORT):  # the package starts it where it may
            start_cluster()
        wait_until(lambda: listens(POSTGRES_PORT), "PostgreSQL")
    # Debian trusts the operating system's word on who connects through the socket ...
    through_socket = f"postgresql:///postgres?host={SOCKETS}&port={POSTGRES_PORT}"
    # ... and a container for tests often trusts everybody.
    as_postgres = f"postgresql://postgres@{HOST}:{POSTGRES_PORT}/postgres"
    if not may_administer(through_socket):
        if may_administer(as_postgres):
            return for_sqlalchemy(as_postgres)
        create_role()
    return for_sqlalchemy(through_socket)


def for_sqlalchemy(url: str) -> str:
    """The same URL with the name of the driver."""
    return url.replace("postgresql:", "postgresql+psycopg:", 1)


def may_administer(url: str) -> bool:
    """Whether this URL lets us in as a superuser."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.info.parameter_status("is_superuser") == "on"
    except psycopg.OperationalError:
        return False


def create_role() -> None:
    """Make the current user a superuser of the database server."""
    user = current_user()
    command = ["createuser", "--superuser", "--port", str(POSTGRES_PORT), user]
    as_user("postgres", command, f"make {user} a superuser of PostgreSQL")


def start_cluster() -> None:
    """Start Debian's main cluster, the newest version's."""
    listing = subprocess.run(
        ["pg_lsclusters", "--no-header"], capture_output=True, text=True, check=True
    )
    versions = [fields[0] for line in listing.stdout.splitlines() if (fields := line.split())]
    if not versions:
        raise ServiceError("PostgreSQL has no cluster: create one with pg_createcluster")
    newest = max(versions, key=float)
    as_user("root", ["pg_ctlcluster", newest, "main", "start"], "start PostgreSQL")


def running_redis() -> str:
    """The URL of a Redis on this machine."""
    if not listens(REDIS_PORT):
        if not shutil.which("redis-server"):
            install("redis-server")
        if not listens(REDIS_PORT):
            nothing_kept = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
            run(["redis-server", "--port", str(REDIS_PORT), "--daemonize", "yes", *nothing_kept])
    wait_until(redis_answers, "Redis")
    return REDIS_URL


def redis_answers() -> bool:
    """Whether Redis lets us in."""
    try:
        return bool(redis.Redis.from_url(REDIS_URL, socket_connect_timeout=2).ping())
    except redis.RedisError:
        return False


def browser() -> None:
    """Chromium, and axe-core through npm."""
    if not Path(CHROMIUM).exists():
        install("chromium")
    if not shutil.which("npm"):
        install("npm")
    try:
        axe_core()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise ServiceError(f"axe-core cannot be had: {error}") from error


def listens(port: int) -> bool:
    """Whether something accepts connections on this port."""
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def install(package: str) -> None:
    """Install a Debian package."""
    if not shutil.which("apt-get"):
        raise ServiceError(f"{package} is missing and there is no apt-get: install it")
    as_user("root", ["apt-get", "update", "--quiet"], f"install {package}")
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive"]
    command = [*quietly, "apt-get", "install", "--yes", "--no-install-recommends", package]
    as_user("root", command, f"install {package}")


def as_user(user: str, command: list[str], purpose: str) -> None:
    """Run a command as another user, where that is allowed without a password."""
    if current_user() == user:
        run(command)
    elif os.geteuid() == 0:
        run(["runuser", "-u", user, "--", *command])
    elif shutil.which("sudo"):
        run(["sudo", "--non-interactive", "--user", user, *command])
    else:
        raise ServiceError(f"cannot {purpose}: as {user}, run `{' '.join(command)}`")


def current_user() -> str:
    """Who we are to the operating system, hence to PostgreSQL's socket."""
    return pwd.getpwuid(os.geteuid()).pw_name


def run(command: list[str]) -> None:
    """Run a command; what it prints goes to stderr, for stdout is for the variables."""
    # From the root directory: other users may not enter ours.
    code = subprocess.run(command, stdout=sys.stderr, cwd="/", check=False).returncode
    if code:
        raise ServiceError(f"`{' '.join(command)}` failed with code {code}")


def wait_until(answers: Callable[[], bool], name: str) -> None:
    """Give a service some time to start."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise ServiceError(f"{name} does not answer on {HOST} within {WAIT_SECONDS} s")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
