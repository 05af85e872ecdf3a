"""Evidence"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("config_digest", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("query_set", sa.String(), nullable=False),
        sa.Column("lds", sa.Double(), nullable=False),
        sa.Column("std_error", sa.Double(), nullable=False),
        sa.Column("of_limit", sa.Double(), nullable=True),
        sa.Column("rho", sa.Double(), nullable=True),
        sa.Column("subsets", sa.Integer(), nullable=False),
        sa.Column("training_seeds", sa.Integer(), nullable=False),
        sa.Column("measured_on", sa.Date(), nullable=False),
        sa.Column("protocol", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_evidence_model_id")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_evidence_dataset_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sa.UniqueConstraint(
            "model_id",
            "dataset_id",
            "config_digest",
            "method",
            "query_set",
            name=op.f("uq_evidence_model_id_dataset_id_config_digest_method_query_set"),
        ),
    )


def downgrade() -> None:
    op.drop_table("evidence")
