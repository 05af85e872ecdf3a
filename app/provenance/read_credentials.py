"""A program: an untrusted picture on stdin, what its C2PA manifest says as JSON on stdout.

In a process of its own, limited in memory and time: manifests are parsed by native code.
"""

from __future__ import annotations

import io
import json
import resource
import sys

import c2pa

MEMORY_BYTES = 2_000_000_000
CPU_SECONDS = 10
MEDIA_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
LONGEST = 500


def media_type_of(content: bytes) -> str:
    """Which of the pictures that are taken this is; empty where it is none."""
    return next((kind for head, kind in MEDIA_TYPES.items() if content.startswith(head)), "")


def main() -> int:
    """Read stdin; exit with 1 where there is no manifest that can be read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = sys.stdin.buffer.read()
    # A manifest may name a URL, and would make the server call out.
    offline = c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False}})
    try:
        with c2pa.Reader(media_type_of(content), io.BytesIO(content), context=offline) as reader:
            manifest, state = reader.get_active_manifest() or {}, reader.get_validation_state()
    except c2pa.C2paError:
        return 1
    generators = manifest.get("claim_generator_info") or [{}]
    actions = [
        action
        for part in manifest.get("assertions", [])
        if str(part.get("label", "")).startswith("c2pa.actions")
        for action in part["data"].get("actions", [])
    ]
    sources = {str(action.get("digitalSourceType", "")).rpartition("/")[2] for action in actions}
    issuer = (manifest.get("signature_info") or {}).get("issuer")
    said = {
        "validation_state": state,
        "claim_generator": generators[0].get("name"),
        "issuer": issuer,
        "title": manifest.get("title"),
        "actions": ", ".join(sorted({str(action.get("action")) for action in actions})),
        "digital_source_types": ", ".join(sorted(source for source in sources if source)),
    }
    print(json.dumps({name: str(value)[:LONGEST] for name, value in said.items() if value}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
