"""Priorities, turns, deadlines and what a tenant may ask"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
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
    op.add_column("tenants", sa.Column("served_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("tenants", sa.Column("max_in_flight", sa.Integer(), nullable=True))
    op.add_column("tenants", sa.Column("max_per_day", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE jobs SET due_at = created_at")
    with op.batch_alter_table("jobs", table_args=CHECKS) as batch:
        batch.alter_column("due_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        batch.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        batch.create_index("ix_jobs_turn", ["status", "priority", "tenant_id", "id"])
        batch.create_index("ix_jobs_status_expires", ["status", "expires_at"])
    with op.batch_alter_table("jobs", table_args=CHECKS) as batch:
        batch.alter_column("priority", existing_type=sa.Integer(), server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("jobs", table_args=CHECKS) as batch:
        batch.drop_index("ix_jobs_status_expires")
        batch.drop_index("ix_jobs_turn")
        batch.drop_column("expires_at")
        batch.drop_column("priority")
        batch.drop_column("due_at")
    with op.batch_alter_table("tenants") as batch:
        batch.drop_column("max_per_day")
        batch.drop_column("max_in_flight")
        batch.drop_column("served_at")
