"""Heartbeats, measures, and the request that a job came from"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("program", sa.String(), nullable=False),
        sa.Column("whose", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("program", "whose", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "measures",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_measures")),
    )
    op.add_column("jobs", sa.Column("request_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("traceparent", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table(
        "jobs",
        table_args=(
            sa.CheckConstraint(
                "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
                name="ck_jobs_status",
            ),
        ),
    ) as batch:
        batch.drop_column("traceparent")
        batch.drop_column("request_id")
    op.drop_table("measures")
    op.drop_table("heartbeats")
