"""Samples by creator and by content"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COLUMNS = ("creator", "digest")


def upgrade() -> None:
    for column in COLUMNS:
        op.create_index(op.f(f"ix_samples_{column}"), "samples", [column])


def downgrade() -> None:
    for column in COLUMNS:
        op.drop_index(op.f(f"ix_samples_{column}"), "samples")
