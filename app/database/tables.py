"""The tables.  The database is the truth; the queue only carries messages about it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from attribution.image_data.sample import Place
from attribution.model_directory import PIPELINES, Follows, PipelineKind

JOB_STATUSES = ("queued", "running", "succeeded", "failed", "canceled", "expired")
DEFAULT_TENANT = "default"
INDEX_STATES = ("building", "ready", "failed")
DELIVERY_STATUSES = ("pending", "succeeded", "failed")


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC on every database: SQLite's own type forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        if value is None or value.tzinfo is not None:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class InArchive(TypeDecorator[Place]):
    """Where an image lies inside an archive."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Place | None, dialect: Dialect) -> Any:
        """Write a list."""
        return value and list(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Place | None:
        """Read a list."""
        return value and Place(*value)


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can drop it on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to declare it
        datetime: UtcDateTime,
        Place: InArchive,
        dict[str, Any]: JSON(none_as_null=True),
        dict[str, str]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class Tenant(Base):
    """Whose things they are.  Installations without keys have one, ``default``."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    max_in_flight: Mapped[int | None]
    max_per_day: Mapped[int | None]
    """What this tenant may ask, where that differs from the settings."""


class Owned:
    """A row of one tenant.  A tenant's sessions see no others (``engine.TenantDatabase``)."""

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), default=DEFAULT_TENANT)


class ApiKey(Owned, Base):
    """A key's SHA-256, never the key.  ``scopes`` say what it opens."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Dataset(Owned, Base):
    """Registered training images; ``digest`` is over its samples' rows.

    ``fields`` says under which name the data has what, where that is not the usual one.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    path: Mapped[str]
    form: Mapped[str] = mapped_column(default="folder", server_default="folder")
    fields: Mapped[dict[str, str]] = mapped_column(default=dict, server_default="{}")
    digest: Mapped[str]
    sample_count: Mapped[int]
    refused_count: Mapped[int] = mapped_column(default=0, server_default="0")
    revision: Mapped[int] = mapped_column(default=0)
    """Counts its takedowns: an answer that began before one is not written after it."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class Sample(Base):
    """A training image and its owner; ``key`` names it within the dataset.

    ``digest`` is the SHA-256 of its file, unknown for those of older releases; ``place`` says where
    in an archive it lies.
    """

    __tablename__ = "samples"

    dataset_id: Mapped[str] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    creator: Mapped[str | None] = mapped_column(index=True)
    licence: Mapped[str | None]
    source: Mapped[str | None]
    creator_uri: Mapped[str | None]
    opt_out: Mapped[dict[str, Any] | None]
    digest: Mapped[str | None] = mapped_column(index=True)
    place: Mapped[Place | None]


class RefusedImage(Base):
    """What a registration left out, and why."""

    __tablename__ = "refused_images"

    dataset_id: Mapped[str] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str]
    reason: Mapped[str]


class Takedown(Owned, Base):
    """Images that somebody wanted out, and the job that sees to it."""

    __tablename__ = "takedowns"

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    reason: Mapped[str]
    images: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class TakenSample(Base):
    """What was taken down: masked from then on, and not registered again."""

    __tablename__ = "taken_samples"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str | None] = mapped_column(index=True)
    takedown_id: Mapped[str] = mapped_column(ForeignKey("takedowns.id"))


class Model(Owned, Base):
    """A diffusers directory, perhaps a LoRA on it, and the CLIP beside it.

    Digests are over their weight files.
    """

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    directory: Mapped[str]
    lora: Mapped[str | None]
    clip_directory: Mapped[str]
    digest: Mapped[str]
    clip_digest: Mapped[str]
    pipeline_class: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def kind(self) -> PipelineKind:
        """What a pipeline of this class follows and needs."""
        return PIPELINES[self.pipeline_class]

    @property
    def follows(self) -> Follows:
        """What its prompts are."""
        return self.kind.follows


class IndexVersion(Owned, Base):
    """One immutable version of an index; a model has at most one active."""

    __tablename__ = "indexes"
    __table_args__ = (
        CheckConstraint(f"state IN {INDEX_STATES}", name="state"),
        CheckConstraint("NOT active OR state = 'ready'", name="active_is_ready"),
        # Two equal requests at once: the second insert fails, and finds the first one's row.
        Index(
            "uq_indexes_build",
            "model_id",
            "dataset_id",
            "config_digest",
            unique=True,
            sqlite_where=text("state <> 'failed'"),
            postgresql_where=text("state <> 'failed'"),
        ),
        Index(
            "uq_indexes_active",
            "model_id",
            unique=True,
            sqlite_where=text("active"),
            postgresql_where=text("active"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    config: Mapped[dict[str, Any]]
    config_digest: Mapped[str]
    shard_size: Mapped[int]
    state: Mapped[str] = mapped_column(default="building")
    active: Mapped[bool] = mapped_column(default=False)
    directory: Mapped[str]
    """Relative to the installation's home, which other machines may mount elsewhere."""
    manifest_digest: Mapped[str | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    ready_at: Mapped[datetime | None]


class Evidence(Base):
    """How good a method was measured to be under one configuration, on one set of queries."""

    __tablename__ = "evidence"
    __table_args__ = (
        UniqueConstraint("model_id", "dataset_id", "config_digest", "method", "query_set"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    config_digest: Mapped[str]
    method: Mapped[str]
    query_set: Mapped[str]
    lds: Mapped[float]
    std_error: Mapped[float]
    of_limit: Mapped[float | None]
    rho: Mapped[float | None]
    subsets: Mapped[int]
    training_seeds: Mapped[int]
    measured_on: Mapped[date]
    protocol: Mapped[dict[str, Any]]


class StoredImage(Base):
    """A picture in the store, named by the SHA-256 of its PNG; the file comes before the row."""

    __tablename__ = "images"

    digest: Mapped[str] = mapped_column(primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    stored_at: Mapped[datetime] = mapped_column(default=now)
    """When somebody last stored it."""


class Job(Owned, Base):
    """Work that was accepted.  ``attempt`` fences: only its current holder may write.

    ``request_digest`` is over what was sent with an ``idempotency_key``.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN {JOB_STATUSES}", name="status"),
        Index("ix_jobs_status_lease", "status", "lease_until"),
        Index("ix_jobs_status_resend", "status", "resend_at"),
        Index("ix_jobs_index_kind", "index_id", "kind"),
        Index("ix_jobs_tenant_kind_id", "tenant_id", "kind", "id"),
        Index("ix_jobs_turn", "status", "queue", "priority", "tenant_id", "id"),
        Index("ix_jobs_status_expires", "status", "expires_at"),
        UniqueConstraint("tenant_id", "idempotency_key"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str]
    """Where its kind waits."""
    index_id: Mapped[str | None] = mapped_column(ForeignKey("indexes.id"))
    image_digest: Mapped[str | None] = mapped_column(ForeignKey("images.digest"))
    status: Mapped[str] = mapped_column(default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    priority: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(default=now)
    """Not before this: the pause after an attempt that failed."""
    expires_at: Mapped[datetime | None]
    """What has not ended by then is no longer wanted."""
    lease_until: Mapped[datetime | None]
    resend_at: Mapped[datetime | None]
    stage: Mapped[str | None]
    fraction: Mapped[float] = mapped_column(default=0.0)
    request_id: Mapped[str | None]
    traceparent: Mapped[str | None]
    """What asked for it, for logs and traces."""
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[str | None]
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    webhook_url: Mapped[str | None]
    """Who is told of its end beside the tenant's webhooks; not part of what was asked."""
    deleted_at: Mapped[datetime | None]
    """A deleted job has lost its request, picture and result; what is left says that it was."""


class Turn(Base):
    """When a worker of a queue last took up a job of a tenant: whose was longest ago is next."""

    __tablename__ = "turns"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    served_at: Mapped[datetime]


class JobEvent(Base):
    """A state that an attribution was in; ``id`` counts up, also where rows were deleted."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index("ix_job_events_job_id_id", "job_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    status: Mapped[str]
    attempt: Mapped[int]
    stage: Mapped[str | None]
    fraction: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=now)


class Heartbeat(Base):
    """When a program of the installation was last heard of; ``whose`` is host and process."""

    __tablename__ = "heartbeats"

    program: Mapped[str] = mapped_column(primary_key=True)
    whose: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Measure(Base):
    """A sum that workers add to: how often, and how much in all."""

    __tablename__ = "measures"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[float]


class OutboxMessage(Base):
    """A message still to be sent, written in the transaction that made its job."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    failures: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Signed:
    """A row with a secret that signs messages; ``app/webhooks/secrets.py`` seals and opens it."""

    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_until: Mapped[datetime | None]
    """Until then the secret before this one signs too."""


class WebhookSecret(Owned, Signed, Base):
    """What signs a tenant's messages to the ``webhook_url`` of single attributions."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (UniqueConstraint("tenant_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookEndpoint(Owned, Signed, Base):
    """A server of a tenant's that is told of events."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    description: Mapped[str]
    given_up: Mapped[int] = mapped_column(default=0)
    """Deliveries in a row that were given up."""
    disabled_at: Mapped[datetime | None]
    disabled_because: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookDelivery(Owned, Base):
    """A message to an endpoint, or to an attribution's ``url``.

    Written in the transaction that makes it true; the relay gives it a job.  Only that job may
    send it: another one's is fenced.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(f"status IN {DELIVERY_STATUSES}", name="status"),
        CheckConstraint("(endpoint_id IS NULL) <> (url IS NULL)", name="endpoint_or_url"),
        Index("ix_webhook_deliveries_tenant_id_id", "tenant_id", "id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_without_job",
            "id",
            sqlite_where=text("status = 'pending' AND job_id IS NULL"),
            postgresql_where=text("status = 'pending' AND job_id IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    url: Mapped[str | None]
    event: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    """The attribution or index that it tells of."""
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="SET NULL"), unique=True
    )
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    response_status: Mapped[int | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    attempted_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
