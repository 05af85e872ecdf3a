"""Tenants, their keys, idempotency and deletion"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OWNED = ("datasets", "models", "indexes", "jobs")
NAMED = ("datasets", "models")
# SQLite makes a table anew to change it, and these are not read off the old one.
CHECKS = {
    "indexes": (
        sa.CheckConstraint("state IN ('building', 'ready', 'failed')", name="ck_indexes_state"),
        sa.CheckConstraint("NOT active OR state = 'ready'", name="ck_indexes_active_is_ready"),
    ),
    "jobs": (
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
            name="ck_jobs_status",
        ),
    ),
}


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.execute(tenants.insert().values(id="default", created_at=sa.func.current_timestamp()))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    for table in OWNED:
        with op.batch_alter_table(table, table_args=CHECKS.get(table, ())) as batch:
            batch.add_column(
                sa.Column("tenant_id", sa.String(), nullable=False, server_default="default")
            )
            batch.create_foreign_key(
                op.f(f"fk_{table}_tenant_id"), "tenants", ["tenant_id"], ["id"]
            )
            if table in NAMED:
                batch.drop_constraint(op.f(f"uq_{table}_name"), type_="unique")
                batch.create_unique_constraint(
                    op.f(f"uq_{table}_tenant_id_name"), ["tenant_id", "name"]
                )
            if table == "jobs":
                batch.add_column(sa.Column("idempotency_key", sa.String(), nullable=True))
                batch.add_column(sa.Column("request_digest", sa.String(), nullable=True))
                batch.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
                batch.create_unique_constraint(
                    op.f("uq_jobs_tenant_id_idempotency_key"), ["tenant_id", "idempotency_key"]
                )
                batch.drop_index("ix_jobs_kind_id")
                batch.create_index("ix_jobs_tenant_kind_id", ["tenant_id", "kind", "id"])
        with op.batch_alter_table(table, table_args=CHECKS.get(table, ())) as batch:
            batch.alter_column("tenant_id", server_default=None)
    with op.batch_alter_table("images") as batch:
        batch.alter_column("created_at", new_column_name="stored_at")


def downgrade() -> None:
    with op.batch_alter_table("images") as batch:
        batch.alter_column("stored_at", new_column_name="created_at")
    for table in OWNED:
        with op.batch_alter_table(table, table_args=CHECKS.get(table, ())) as batch:
            if table == "jobs":
                batch.drop_index("ix_jobs_tenant_kind_id")
                batch.create_index("ix_jobs_kind_id", ["kind", "id"])
                batch.drop_constraint(op.f("uq_jobs_tenant_id_idempotency_key"), type_="unique")
                for column in ("deleted_at", "request_digest", "idempotency_key"):
                    batch.drop_column(column)
            if table in NAMED:
                batch.drop_constraint(op.f(f"uq_{table}_tenant_id_name"), type_="unique")
                batch.create_unique_constraint(op.f(f"uq_{table}_name"), ["name"])
            batch.drop_constraint(op.f(f"fk_{table}_tenant_id"), type_="foreignkey")
            batch.drop_column("tenant_id")
    op.drop_table("api_keys")
    op.drop_table("tenants")
