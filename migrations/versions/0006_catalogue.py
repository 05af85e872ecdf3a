"""Opt-outs, contents and takedowns"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("datasets") as batch:
        batch.alter_column("revision", existing_type=sa.Integer(), server_default=None)
    op.add_column("samples", sa.Column("creator_uri", sa.String(), nullable=True))
    op.add_column("samples", sa.Column("opt_out", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("samples", sa.Column("digest", sa.String(), nullable=True))
    op.create_table(
        "takedowns",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_takedowns_tenant_id")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_takedowns_dataset_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_takedowns_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_takedowns")),
    )
    op.create_table(
        "taken_samples",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("takedown_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_taken_samples_dataset_id")
        ),
        sa.ForeignKeyConstraint(
            ["takedown_id"], ["takedowns.id"], name=op.f("fk_taken_samples_takedown_id")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "key", name=op.f("pk_taken_samples")),
    )
    op.create_index(op.f("ix_taken_samples_digest"), "taken_samples", ["digest"])


def downgrade() -> None:
    op.drop_table("taken_samples")
    op.drop_table("takedowns")
    with op.batch_alter_table("samples") as batch:
        batch.drop_column("digest")
        batch.drop_column("opt_out")
        batch.drop_column("creator_uri")
    with op.batch_alter_table("datasets") as batch:
        batch.drop_column("revision")
