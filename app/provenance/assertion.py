"""The training-attribution assertion: an answer as it goes into a C2PA manifest."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Any

from app.provenance.record import Record

SCHEMA_ID = "urn:headwater:schema:training-attribution:1"
SCHEMA_FILE = "training-attribution-1.schema.json"
EVIDENCE = ("std_error", "query_set", "measured_on")


@cache
def schema() -> dict[str, Any]:
    """The published JSON schema of the assertion."""
    text = resources.files("app.provenance").joinpath(SCHEMA_FILE).read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def assertion(record: Record) -> dict[str, Any]:
    """The assertion's data.

    Contributors are named by their content.  Those whose content the catalogue does not know, from
    before it kept any, are left out: a name in somebody's folder says nothing to anybody else.
    """
    result, rests_on = record.result, record.result["rests_on"]
    rows = [_contributor(record, row) for row in result["contributors"]]
    data = {
        "schema": SCHEMA_ID,
        "attribution_id": record.attribution_id,
        "computed_at": record.finished_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "subject": {"alg": "sha256", "hash": record.subject, "media_type": record.subject_type},
        "model": {
            "instance_id": record.model_instance,
            "name": record.model_name,
            "index_version": rests_on["index_version"],
        },
        "method": {
            "name": rests_on["method"],
            "version": version("headwater"),
            "projection_dim": rests_on["dimension"],
            "timesteps": rests_on["timesteps"],
            "probes": rests_on["outputs"],
            "seed": rests_on["seed"],
        },
        "candidates": result["candidates"],
        "evidence": [
            {"metric": "lds", "value": row["lds"], **{name: row[name] for name in EVIDENCE}}
            for row in result.get("evidence", [])
        ],
        "contributors": [row for row in rows if row is not None],
        "unattributed_share": result.get("unattributed_share"),
        "statement": result["statement"],
    }
    return _told(data)


def _contributor(record: Record, row: dict[str, Any]) -> dict[str, Any] | None:
    instance = record.instance(row["key"])
    if instance is None:
        return None
    creator = {"name": row["creator"], "uri": row.get("creator_uri")}
    licence = {"spdx": row["licence"], "status": "declared"}
    return _told(
        {
            "rank": row["rank"],
            "instance_id": instance,
            "score": row["score"],
            "effect": row["effect"],
            "std_error": row["std_error"],
            "share": row["share"],
            "creator": _told(creator) if row["creator"] else None,
            "licence": licence if row["licence"] else None,
            "source": row["source"],
            "opt_out": row.get("opt_out"),
        }
    )


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is not known: CBOR and the schema have no use for null."""
    return {name: value for name, value in values.items() if value is not None}
