"""``headwater keys``: the operator's way to API keys, on the database itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.access.scopes import SCOPES, Scope
from cli.errors import BadInputError
from cli.installation import migrated_database
from cli.outcome import AsJson, tell

if TYPE_CHECKING:
    from app.database.engine import TenantDatabase
    from app.database.tables import ApiKey

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
    as_json: AsJson = False,
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
    tell(as_json, secret, _described(key) | {"key": secret})


@app.command("list")
def list_keys(tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show a tenant's keys, newest first."""
    from rich.console import Console
    from rich.table import Table

    from app.access import keys

    table = Table("id", "name", "scopes", "expires", "revoked")
    with _database(tenant) as database, database.read() as session:
        found = list(keys.page(session, None, 1000))
    if as_json:
        tell(as_json, "", [_described(key) for key in found])
        return
    for key in found:
        ends = [f"{end:%Y-%m-%d}" if end else None for end in (key.expires_at, key.revoked_at)]
        table.add_row(key.id, key.name, ", ".join(key.scopes), *ends)
    Console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id.")],
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Close a key for ever."""
    from app.access import keys
    from app.problems import ProblemError

    try:
        with _database(tenant) as database, database.write() as session:
            keys.revoke(session, key)
    except ProblemError as error:
        raise BadInputError(f"{error.body['title']}: {error}") from None
    tell(as_json, f"{key} is revoked", {"id": key, "revoked": True})


@app.command()
def quota(
    tenant: Tenant = "default",
    in_flight: Annotated[
        int | None, typer.Option(min=0, help="Attributions that have not ended; 0: no limit.")
    ] = None,
    per_day: Annotated[
        int | None, typer.Option(min=0, help="Attributions in 24 hours; 0: no limit.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a tenant limits of its own; what is not said is everybody's."""
    from app.access import keys

    with _database(tenant, make=True) as database, database.write() as session:
        keys.set_quota(session, tenant, in_flight, per_day)
    told = ["everybody's" if limit is None else str(limit) for limit in (in_flight, per_day)]
    tell(
        as_json,
        f"{tenant}: in flight {told[0]}, per day {told[1]}",
        {"tenant": tenant, "max_in_flight": in_flight, "max_per_day": per_day},
    )


def _described(key: ApiKey) -> dict[str, Any]:
    names = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at")
    return {name: getattr(key, name) for name in names}


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
