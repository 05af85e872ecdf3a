"""Alembic's entry: migrates the connection that ``app.database.migrate`` gives it."""

from __future__ import annotations

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from app.database.tables import Base, UtcDateTime


def render_type(kind: str, item: object, _: AutogenContext) -> str | Literal[False]:
    """A migration must not change with the application's own types."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_type,
)
with context.begin_transaction():
    context.run_migrations()
