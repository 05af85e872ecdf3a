"""What a picture that was sent says of itself: its C2PA manifest, before the picture is cleaned."""

from __future__ import annotations

import json
import subprocess
import sys

from app.provenance import read_credentials

SECONDS = 20
LONGEST_ANSWER = 50_000  # each letter of some scripts is twelve in JSON


def credentials_of(content: bytes) -> dict[str, str] | None:
    """A summary of the manifest; None where there is none, or none that can be read.

    Most pictures have none, and cost nothing.  A broken manifest refuses no picture.
    """
    if b"jumb" not in content and b"caBX" not in content:
        return None
    # By path and isolated: the child sees the library and nothing of the application.
    command = [sys.executable, "-I", read_credentials.__file__]
    try:
        child = subprocess.run(
            command, input=content, capture_output=True, timeout=SECONDS, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        return None
    if child.returncode or len(child.stdout) > LONGEST_ANSWER:
        return None
    said: dict[str, str] = json.loads(child.stdout)
    return said
