"""An attribution as PROV-O, in JSON-LD: for whoever collects provenance of all kinds."""

from __future__ import annotations

import hashlib
from typing import Any

from app.provenance.record import Record

MEDIA_TYPE = "application/ld+json"
CONTEXT: dict[str, Any] = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dcterms": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "hw": "urn:headwater:terms:",
}


def prov(record: Record) -> dict[str, Any]:
    """A graph: the picture, the model, the computation, the training images and their creators.

    Influence is qualified with its share and score, which a plain ``wasInfluencedBy`` does not say;
    none of it is proof of copying.
    """
    picture = f"urn:sha256:{record.subject}"
    model = f"urn:sha256:{record.model_digest}"
    activity = f"urn:headwater:attribution:{record.attribution_id}"
    rows = record.result["contributors"]
    names = sorted({row["creator"] for row in rows if row["creator"]})
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": picture,
                "@type": "prov:Entity",
                "prov:wasDerivedFrom": {"@id": model},
                "prov:wasInfluencedBy": [{"@id": _entity(record, row["key"])} for row in rows],
                "prov:qualifiedInfluence": [_influence(record, activity, row) for row in rows],
            },
            {"@id": model, "@type": "prov:Entity", "dcterms:title": record.model_name},
            {
                "@id": activity,
                "@type": "prov:Activity",
                "prov:used": [{"@id": picture}, {"@id": model}],
                "prov:startedAtTime": _moment(record.started_at.isoformat()),
                "prov:endedAtTime": _moment(record.finished_at.isoformat()),
                "hw:method": record.result["rests_on"]["method"],
                "hw:indexVersion": record.result["rests_on"]["index_version"],
                "dcterms:description": record.result["statement"],
            },
            *(_image(record, row) for row in rows),
            *({"@id": _agent(name), "@type": "prov:Agent", "foaf:name": name} for name in names),
        ],
    }


def _influence(record: Record, activity: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "prov:EntityInfluence",
        "prov:entity": {"@id": _entity(record, row["key"])},
        "prov:hadActivity": {"@id": activity},
        "hw:rank": row["rank"],
        "hw:share": row["share"],
        "hw:score": row["score"],
    }


def _image(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    image: dict[str, Any] = {"@id": _entity(record, row["key"]), "@type": "prov:Entity"}
    if row["creator"]:
        image["prov:wasAttributedTo"] = {"@id": _agent(row["creator"])}
    if row["licence"]:
        image["dcterms:license"] = row["licence"]
    if row["source"]:
        image["dcterms:source"] = row["source"]
    return image


def _entity(record: Record, key: str) -> str:
    """A training image by its content, or by its place where the content is not known."""
    instance = record.instance(key)
    place = f"{record.dataset_name}\0{key}"
    return f"urn:{instance}" if instance else f"urn:headwater:sample:{_short(place)}"


def _agent(name: str) -> str:
    return f"urn:headwater:creator:{_short(name)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _moment(text: str) -> dict[str, str]:
    return {"@type": "xsd:dateTime", "@value": text}
