"""Datasets in archives and tables, and what their registration left out"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# What the datasets of before are.
BEFORE = {
    "form": (sa.String(), "folder"),
    "fields": (sa.JSON(), "{}"),
    "refused_count": (sa.Integer(), "0"),
}


def upgrade() -> None:
    for name, (kind, value) in BEFORE.items():
        column = sa.Column(name, kind, nullable=False, server_default=value)
        op.add_column("datasets", column)
    op.add_column("samples", sa.Column("place", sa.JSON(), nullable=True))
    op.create_table(
        "refused_images",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_refused_images_dataset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "number", name=op.f("pk_refused_images")),
    )


def downgrade() -> None:
    op.drop_table("refused_images")
    with op.batch_alter_table("samples") as samples:
        samples.drop_column("place")
    with op.batch_alter_table("datasets") as datasets:
        for name in BEFORE:
            datasets.drop_column(name)
