"""Settings, read from the environment as ``HEADWATER_…``; the defaults need nothing installed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import limits
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

# Two underscores are reserved for the SDK's numbers.
DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


class Settings(BaseSettings):
    """One installation.  Times are in seconds, sizes in bytes."""

    # An error shows no value: some are secret.
    model_config = SettingsConfigDict(env_prefix="HEADWATER_", hide_input_in_errors=True)

    home: Path = Path("var")
    database_url: str = ""
    """Empty: SQLite below ``home``.  PostgreSQL: ``postgresql+psycopg://…``."""
    broker_url: str = "filesystem://"
    """``filesystem://`` keeps its folders below ``home``; ``redis://…`` elsewhere."""
    gpu_queue: str = "headwater-gpu"
    cpu_queue: str = "headwater-cpu"
    """For jobs that need no model."""

    access: Literal["open", "keys"] = "open"
    """``open``: whoever reaches the port may do everything.  ``keys``: API keys, with tenants."""

    rate_limit: str = ""
    """Requests of a tenant, for example ``600/minute``; of an address where access is open.
    Empty: as many as it likes."""
    max_in_flight: int = Field(default=0, ge=0)
    max_per_day: int = Field(default=0, ge=0)
    """Attributions of a tenant that have not ended, and in 24 hours; 0: no limit."""
    max_queued: int = Field(default=10_000, ge=0)
    """Attributions that wait, of all tenants; more are refused with 503.  0: no limit."""
    max_wait_seconds: float = Field(default=0, ge=0)
    """While an interactive question of a tenant waits longer, its next ones are refused with 503.
    0: no limit."""
    min_free_bytes: int = Field(default=500_000_000, ge=0)
    """With less free on the disk of ``home``, attributions and index builds are refused."""
    expire_seconds: float = Field(default=0, ge=0)
    """An attribution that has not ended by then expires, unless its question says otherwise."""

    model_roots: list[Path] = Field(default_factory=lambda: [Path.cwd()])
    dataset_roots: list[Path] = Field(default_factory=lambda: [Path.cwd()])

    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    outbound_seconds: float = Field(default=20, gt=0)
    outbound_private: bool = False
    """Speak http too, and with addresses of this network."""
    max_image_pixels: int = Field(default=4096 * 4096, ge=1)

    c2pa_certificate: Path | None = None
    """PEM: the signer's certificate, then its authorities'.  Without it nothing is signed."""
    c2pa_private_key: Path | None = None
    """PEM; only workers of the CPU queue need to be able to read it."""
    c2pa_algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = (
        "es256"
    )
    c2pa_timestamp_url: str = ""
    """Of a timestamp authority; empty: signatures carry no time."""
    c2pa_domain: str = "org.headwater"
    """Reversed; the assertion is ``<domain>.training-attribution``."""
    c2pa_contributors: Literal["assertion", "ingredients"] = "assertion"
    """Name training images in the assertion, or as ingredients of the picture too."""

    log_format: Literal["json", "console"] = "json"
    metrics_token: str = Field(default="", pattern=r"^[\x21-\x7e]*$", repr=False)
    """What ``/metrics`` asks for as ``Authorization: Bearer``; empty: it is open to all."""
    tracing_endpoint: str = ""
    """Of an OpenTelemetry collector that takes OTLP over HTTP; empty: no traces are made."""
    heartbeat_seconds: float = Field(default=5, gt=0)
    """How often programs say that they are alive; readiness misses them after four times that."""
    retention_days: float = Field(default=0, ge=0)
    """Attributions that ended so long ago are deleted, as by their owner; 0: kept for ever."""
    webhook_seconds: float = Field(default=10, gt=0)
    """How long a receiver may take to answer."""
    webhook_pauses: list[Annotated[float, Field(ge=0)]] = Field(
        default=[5, 30, 180, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600], min_length=1
    )
    """Before the second attempt of a delivery, the third, …: about a day in all."""
    webhooks_per_tenant: int = Field(default=50, ge=1)
    public_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where clients reach this installation, for the URLs in messages; empty: they are paths."""
    secret_keys: list[str] = Field(default_factory=list, repr=False)
    """Fernet keys.  The first encrypts webhook secrets in the database, all of them decrypt."""

    concurrency: int = Field(default=1, ge=1)
    torch_threads: int = Field(default=1, ge=1)
    device: str = "cpu"
    shard_size: int = Field(default=50, ge=1)
    """Training images in one shard: what a killed build repeats at most."""

    lease_seconds: float = Field(default=60, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    resend_seconds: float = Field(default=30, gt=0)
    """A job that nobody claimed for so long gets another message; then after twice its age."""
    sweep_seconds: float = Field(default=3600, gt=0)
    """A picture that no job speaks of is deleted after so long."""
    drain_seconds: float = Field(default=10, ge=0)
    """After SIGTERM: requests are answered, jobs ended or else given back to the queue."""
    time_limit_seconds: int = Field(default=6 * 3600, ge=1)
    """A task that runs longer is killed with its process."""

    @field_validator("database_url")
    @classmethod
    def _is_served(cls, url: str) -> str:
        try:
            driver = make_url(url).drivername if url else "sqlite"
        except ArgumentError:
            driver = ""
        if driver not in ("sqlite", "postgresql+psycopg"):
            raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")
        return url

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, text: str) -> str:
        if text:
            limits.parse(text)  # raises ValueError
        return text

    @field_validator("c2pa_domain")
    @classmethod
    def _is_ours(cls, domain: str) -> str:
        # C2PA's own names are not ours to use, and the SDK would take them.
        if not DOMAIN.fullmatch(domain) or f"{domain}.".startswith(("c2pa.", "cawg.")):
            raise ValueError("must be a reversed domain of yours, such as org.example")
        return domain

    @field_validator("secret_keys")
    @classmethod
    def _are_keys(cls, keys: list[str]) -> list[str]:
        if keys:
            from cryptography.fernet import Fernet

            for key in keys:
                Fernet(key)  # raises ValueError
        return keys

    @model_validator(mode="after")
    def _resolve_paths(self) -> Settings:
        # Children may be started in other directories, so nothing stays relative.
        self.home = self.home.resolve()
        self.model_roots = [root.resolve() for root in self.model_roots]
        self.dataset_roots = [root.resolve() for root in self.dataset_roots]
        self.database_url = self.database_url or f"sqlite:///{self.home / 'headwater.db'}"
        return self

    def to_environment(self) -> dict[str, str]:
        """The variables from which a child process reads these very settings."""
        prefix = str(self.model_config["env_prefix"])
        return {
            f"{prefix}{name}".upper(): json.dumps(value) if isinstance(value, list) else str(value)
            for name, value in self.model_dump(mode="json", exclude_none=True).items()
        }
