"""What a picture's own file says of being trained on.

Three ways to say it are read: CAWG's training and data mining assertion in a C2PA manifest, C2PA's
older one of the same shape, and the PLUS data mining property in XMP, which IPTC took over.
"""

from __future__ import annotations

import io
import re
import threading
from functools import cache
from typing import Any

import c2pa

from app.provenance.read_credentials import media_type_of

ASSERTIONS = ("cawg.training-mining", "c2pa.training-mining")
NOT_ALLOWED = "notAllowed"
# PLUS vocabulary: DMI-PROHIBITED and its narrower forms, as an attribute, an element or a link.
PROHIBITED = re.compile(rb"DataMining\b[^<]{0,200}?(DMI-PROHIBITED[A-Z-]*)")


_reading = threading.Lock()  # native code, of which nobody says that threads may share it


def read_opt_out(content: bytes) -> dict[str, str] | None:
    """Each use that the file does not allow, and how it says so; None where it says nothing."""
    found: dict[str, str] = {}
    if b"jumb" in content or b"caBX" in content:
        found |= _from_manifest(content)
    if prohibited := PROHIBITED.search(content):
        found["plus.DataMining"] = prohibited[1].decode()
    return found or None


def _from_manifest(content: bytes) -> dict[str, str]:
    try:
        kind, file = media_type_of(content), io.BytesIO(content)
        with _reading, c2pa.Reader(kind, file, context=offline()) as reader:
            manifest = reader.get_active_manifest() or {}
    except (c2pa.C2paError, KeyError):  # KeyError: the active manifest is not in the store
        return {}  # what cannot be read says nothing
    found: dict[str, str] = {}
    for assertion in manifest.get("assertions", []):
        if str(assertion.get("label", "")).startswith(ASSERTIONS):
            found |= refused_uses(assertion.get("data"))
    return found


def refused_uses(data: Any) -> dict[str, str]:
    """The entries of an assertion that are not allowed.

    ``constrained`` without a word about the constraints is a no; both spellings of that word occur.
    """
    entries = data.get("entries") if isinstance(data, dict) else None
    found: dict[str, str] = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        use = entry.get("use") if isinstance(entry, dict) else None
        if use == NOT_ALLOWED:
            found[str(name)] = NOT_ALLOWED
        elif use == "constrained":
            told = entry.get("constraint_info") or entry.get("constraints_info")
            found[str(name)] = f"constrained: {told}"[:1000] if told else NOT_ALLOWED
    return found


@cache
def offline() -> c2pa.Context:
    """Reading that asks nobody: a manifest may name a URL, and would make the server call out."""
    return c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False}})
