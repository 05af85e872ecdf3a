"""The queue of a job, and the turns of tenants in each queue"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# SQLite makes a table anew to change it, and this is not read off the old one.
CHECKS = (
    sa.CheckConstraint(
        "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
        name="ck_jobs_status",
    ),
)


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_turns_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "queue", name=op.f("pk_turns")),
    )
    op.execute(
        "INSERT INTO turns (tenant_id, queue, served_at)"
        " SELECT id, 'gpu', served_at FROM tenants WHERE served_at IS NOT NULL"
    )
    op.drop_column("tenants", "served_at")
    op.add_column("jobs", sa.Column("queue", sa.String(), nullable=True))
    op.execute(
        "UPDATE jobs SET queue = CASE WHEN kind IN ('takedown', 'c2pa.sign', 'webhook.delivery')"
        " THEN 'cpu' ELSE 'gpu' END"
    )
    with op.batch_alter_table("jobs", table_args=CHECKS) as batch:
        batch.alter_column("queue", existing_type=sa.String(), nullable=False)
        batch.drop_index("ix_jobs_turn")
        batch.create_index("ix_jobs_turn", ["status", "queue", "priority", "tenant_id", "id"])


def downgrade() -> None:
    with op.batch_alter_table("jobs", table_args=CHECKS) as batch:
        batch.drop_index("ix_jobs_turn")
        batch.create_index("ix_jobs_turn", ["status", "priority", "tenant_id", "id"])
        batch.drop_column("queue")
    op.add_column("tenants", sa.Column("served_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE tenants SET served_at = (SELECT max(turns.served_at) FROM turns"
        " WHERE turns.tenant_id = tenants.id)"
    )
    op.drop_table("turns")
