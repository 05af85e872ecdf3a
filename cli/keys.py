"""``headwater keys``: the operator's way to API keys, on the database itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.access.scopes import SCOPES, Scope
from cli.errors import BadInputError
from cli.installation import migrated_database

if TYPE_CHECKING:
    from app.database.engine import TenantDatabase

app = typer.Typer(no_args_is_help=True, help="API keys of this installation's tenants.")

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

Tenant = Annotated[str, typer.Option(help="Whose key: lower-case letters, digits, dashes.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    tenant: Tenant = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"May be repeated: {', '.join(SCOPES)}.  Otherwise all."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Valid for so long; else for ever.")
    ] = None,
) -> None:
    """Make a key and print it: it is shown this once.

    Keys are asked for where HEADWATER_ACCESS is keys.
    """
    from app.access import keys

    unknown = sorted(set(scope or ()) - set(SCOPES))
    if unknown:
        raise BadInputError(f"--scope: {', '.join(unknown)} is none of {', '.join(SCOPES)}")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with _database(tenant, make=True) as database, database.write() as session:
        key, secret = keys.create(session, name, cast(list[Scope], scope or SCOPES), expires_at)
    typer.echo(f"{key.id} of {tenant} opens {', '.join(key.scopes)}", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(tenant: Tenant = "default") -> None:
    """Show a tenant's keys, newest first."""
    from rich.console import Console
    from rich.table import Table

    from app.access import keys

    table = Table("id", "name", "scopes", "expires", "revoked")
    with _database(tenant) as database, database.read() as session:
        for key in keys.page(session, None, 1000):
            ends = [f"{end:%Y-%m-%d}" if end else None for end in (key.expires_at, key.revoked_at)]
            table.add_row(key.id, key.name, ", ".join(key.scopes), *ends)
    Console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id.")], tenant: Tenant = "default"
) -> None:
    """Close a key for ever."""
    from app.access import keys
    from app.problems import ProblemError

    try:
        with _database(tenant) as database, database.write() as session:
            keys.revoke(session, key)
    except ProblemError as error:
        raise BadInputError(f"{error.body['title']}: {error}") from None
    typer.echo(f"{key} is revoked")


@app.command()
def quota(
    tenant: Tenant = "default",
    in_flight: Annotated[
        int | None, typer.Option(min=0, help="Attributions that have not ended; 0: no limit.")
    ] = None,
    per_day: Annotated[
        int | None, typer.Option(min=0, help="Attributions in 24 hours; 0: no limit.")
    ] = None,
) -> None:
    """Give a tenant limits of its own; what is not said is everybody's."""
    from app.access import keys

    with _database(tenant, make=True) as database, database.write() as session:
        keys.set_quota(session, tenant, in_flight, per_day)
    told = ["everybody's" if limit is None else str(limit) for limit in (in_flight, per_day)]
    typer.echo(f"{tenant}: in flight {told[0]}, per day {told[1]}")


@contextmanager
def _database(tenant: str, *, make: bool = False) -> Iterator[TenantDatabase]:
    """The tenant's part of the installation's database; ``make`` makes a new tenant."""
    from app.access.keys import ensure_tenant

    if not TENANT.fullmatch(tenant):
        raise BadInputError(f"--tenant: lower-case letters, digits and dashes, not {tenant!r}")
    with migrated_database() as database:
        if make:
            ensure_tenant(database, tenant)
        yield database.of_tenant(tenant)
