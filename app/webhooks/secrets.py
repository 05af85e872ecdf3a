"""Secrets that sign messages: made and shown once, then kept sealed.

To sign takes the secret itself, not a digest of it.  With ``HEADWATER_SECRET_KEYS`` the database
holds it encrypted; without, it holds it as it is.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta

from app.database.tables import Signed, now

PREFIX = "whsec_"
OVERLAP = timedelta(days=1)


class SecretUnreadableError(Exception):
    """None of the operator's keys opens a secret; the text may be shown to the tenant."""


def renew(row: Signed, keys: Sequence[str]) -> str:
    """Give the row a new secret and return it; the one that it had signs too for another day."""
    secret = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    if row.secret:
        row.previous_secret, row.previous_until = row.secret, now() + OVERLAP
    row.secret = _seal(secret, keys)
    return secret


def signing(row: Signed, keys: Sequence[str]) -> list[str]:
    """The secrets that sign at present, the newest first."""
    sealed = [row.secret]
    if row.previous_secret and row.previous_until and row.previous_until > now():
        sealed.append(row.previous_secret)
    return [_open(secret, keys) for secret in sealed]


def _seal(secret: str, keys: Sequence[str]) -> str:
    if not keys:
        return secret
    from cryptography.fernet import Fernet

    return Fernet(keys[0]).encrypt(secret.encode()).decode()


def _open(sealed: str, keys: Sequence[str]) -> str:
    if sealed.startswith(PREFIX):  # kept before there was a key
        return sealed
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    try:
        return MultiFernet([Fernet(key) for key in keys]).decrypt(sealed).decode()
    except (InvalidToken, ValueError):  # ValueError: there is no key at all
        raise SecretUnreadableError("the signing secret cannot be decrypted") from None
