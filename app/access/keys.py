"""API keys: made once, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.access.scopes import Scope
from app.database.engine import Database
from app.database.tables import ApiKey, Tenant, now
from app.identifiers import new_id
from app.problems import ProblemError

PREFIX = "hw_"  # so that scanners for leaked secrets can tell what they found


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal; the secret is random and long, so it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    session: Session, name: str, scopes: Sequence[Scope], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """A new key of the session's tenant, and the secret, which is not kept."""
    secret = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        name=name,
        digest=digest(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    session.add(key)
    return key, secret


def valid(session: Session, secret: str) -> ApiKey | None:
    """The key of this secret, unless it has expired or was revoked."""
    query = select(ApiKey).where(
        ApiKey.digest == digest(secret),
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()),
    )
    return session.scalars(query).one_or_none()


def revoke(session: Session, key_id: str) -> ApiKey:
    """Close a key for ever; a 404 problem if there is none, and no error if it is closed."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise ProblemError(404, "key-not-found", "API key not found", f"{key_id!r} is unknown")
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=now())
    )
    session.refresh(key)
    return key


def page(session: Session, cursor: str | None, limit: int) -> Sequence[ApiKey]:
    """Keys, newest first, one more than ``limit`` where there are more."""
    query = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(ApiKey.id < cursor)
    return session.scalars(query).all()


def set_quota(session: Session, tenant: str, in_flight: int | None, per_day: int | None) -> None:
    """A tenant's own limits; None is everybody's."""
    session.execute(
        update(Tenant)
        .where(Tenant.id == tenant)
        .values(max_in_flight=in_flight, max_per_day=per_day)
    )


def ensure_tenant(database: Database, tenant: str) -> None:
    """Make the tenant's row where there is none."""
    try:
        with database.write() as session:
            if session.get(Tenant, tenant) is None:
                session.add(Tenant(id=tenant))
    except IntegrityError:
        pass  # somebody else made it since we looked
