"""Webhooks: endpoints, secrets and deliveries"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WITHOUT_JOB = sa.text("status = 'pending' AND job_id IS NULL")


def _signed(table: str) -> list[sa.Column[object] | sa.Constraint]:
    """What endpoints and secrets have in common."""
    return [
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("previous_secret", sa.String(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=f"fk_{table}_tenant_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    ]


def upgrade() -> None:
    op.add_column("jobs", sa.Column("webhook_url", sa.String(), nullable=True))
    op.create_table(
        "webhook_secrets",
        *_signed("webhook_secrets"),
        sa.UniqueConstraint("tenant_id", name="uq_webhook_secrets_tenant_id"),
    )
    op.create_table(
        "webhooks",
        *_signed("webhooks"),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("events", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("given_up", sa.Integer(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_because", sa.String(), nullable=True),
    )
    op.create_index("ix_webhooks_tenant_id_id", "webhooks", ["tenant_id", "id"])
    table = "webhook_deliveries"
    op.create_table(
        table,
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=True),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed')", name=op.f(f"ck_{table}_status")
        ),
        sa.CheckConstraint(
            "(endpoint_id IS NULL) <> (url IS NULL)", name=op.f(f"ck_{table}_endpoint_or_url")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhooks.id"], name=f"fk_{table}_endpoint_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=f"fk_{table}_job_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=f"fk_{table}_tenant_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("job_id", name=f"uq_{table}_job_id"),
    )
    op.create_index(f"ix_{table}_subject_id", table, ["subject_id"])
    op.create_index(f"ix_{table}_tenant_id_id", table, ["tenant_id", "id"])
    op.create_index(f"ix_{table}_endpoint_id_id", table, ["endpoint_id", "id"])
    op.create_index(
        f"ix_{table}_without_job",
        table,
        ["id"],
        sqlite_where=WITHOUT_JOB,
        postgresql_where=WITHOUT_JOB,
    )


def downgrade() -> None:
    # An older release would send their messages for ever, and have nobody to take them.
    deliveries = "SELECT id FROM jobs WHERE kind = 'webhook.delivery'"
    op.execute(f"DELETE FROM outbox WHERE job_id IN ({deliveries})")
    op.execute("UPDATE webhook_deliveries SET job_id = NULL")
    op.execute("DELETE FROM jobs WHERE kind = 'webhook.delivery'")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
    op.drop_table("webhook_secrets")
    op.drop_column("jobs", "webhook_url")
