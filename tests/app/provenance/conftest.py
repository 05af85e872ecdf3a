"""An answer as attributions keep it, a picture, and a certificate that an operator configured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from signing_identity import Identity

Json = dict[str, Any]


def row(rank: int, key: str, **more: Any) -> Json:
    plain = {"rank": rank, "key": key, "score": 2.0 / rank, "effect": -1.5, "std_error": 0.25}
    nobody = dict.fromkeys(("creator", "licence", "source", "creator_uri", "opt_out"))
    return plain | {"share": 0.5 / rank} | nobody | more


@pytest.fixture
def result() -> Json:
    ada = {"creator": "Ada", "licence": "CC-BY-4.0", "creator_uri": "https://ada.example"}
    rests_on = {
        **{"method": "das", "timesteps": 3, "seed": 0, "outputs": 4, "dimension": 64},
        "index_version": "d" * 64,
    }
    measured = {"lds": 0.5, "std_error": 0.01, "query_set": "validation", "of_limit": 0.77}
    return {
        "contributors": [
            row(1, "a.png", **ada, opt_out={"cawg.ai_training": "notAllowed"}),
            row(2, "b.png", std_error=None),
            row(3, "older.png"),
        ],
        "candidates": {
            **{"strategy": "exhaustive", "considered": 3, "corpus": 3},
            "exhaustive": True,
        },
        "rests_on": rests_on,
        "evidence": [measured | {"measured_on": "2026-11-24"}],
        "unattributed_share": 0.1,
        "statement": "Influence estimate, not proof of copying",
    }


@pytest.fixture
def png() -> bytes:
    content = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def certified(identity: Identity, tmp_path: Path) -> Json:
    """The settings of an operator who signs."""
    certificate, key = identity.write(tmp_path)
    files = {"c2pa_certificate": certificate, "c2pa_private_key": key}
    return files | {"c2pa_domain": "org.example"}
