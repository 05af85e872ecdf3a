"""What other programs read: a signed picture, its assertion, PROV-O, and a receipt."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import c2pa
import jsonschema
import pytest
import rdflib
from PIL import Image
from pydantic import ValidationError
from signing_identity import Identity

from app.config import Settings
from app.provenance.assertion import assertion, schema
from app.provenance.prov import prov
from app.provenance.receipt import receipt
from app.provenance.record import Record
from app.provenance.signing import SigningError, sign

LABEL = "org.example.training-attribution"


@pytest.fixture
def record(result: dict[str, Any]) -> Record:
    return Record(
        attribution_id="atr_1",
        index_id="idx_1",
        request={"caption": "a cat", "method": "das", "candidates": "exhaustive"},
        result=result,
        subject="a" * 64,
        subject_type="image/jpeg",
        picture="b" * 64,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 2, tzinfo=UTC),
        model_name="tiny",
        model_digest="c" * 64,
        dataset_name="shapes",
        contents={"a.png": "1" * 64, "b.png": "2" * 64},
    )


@pytest.fixture
def signing(certified: dict[str, Any], tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", **certified)


def manifest_of(reader: c2pa.Reader) -> dict[str, Any]:
    content = json.loads(reader.json())
    found: dict[str, Any] = content["manifests"][content["active_manifest"]]
    return found


def check(manifest: dict[str, Any], record: Record) -> None:
    said = {part["label"]: part["data"] for part in manifest["assertions"]}
    jsonschema.validate(
        said[LABEL], schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert said[LABEL] == assertion(record)
    (action,) = said["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.opened"
    relations = {part["relationship"]: part for part in manifest["ingredients"]}
    assert set(relations) == {"parentOf", "inputTo"}
    assert relations["inputTo"]["instance_id"] == f"sha256:{'c' * 64}"


def test_a_signed_picture_is_valid_and_looks_the_same(
    signing: Settings, record: Record, png: bytes, identity: Identity
) -> None:
    signed = sign(signing, record, png)
    with c2pa.Reader("image/png", io.BytesIO(signed.picture)) as reader:
        assert reader.get_validation_state() == "Valid"
        check(manifest_of(reader), record)
    trusting = c2pa.Context.from_dict(
        {
            "verify": {"verify_trust": True, "remote_manifest_fetch": False},
            "trust": {"user_anchors": identity.authority.decode()},
        }
    )
    with c2pa.Reader("image/png", io.BytesIO(signed.picture), context=trusting) as reader:
        assert reader.get_validation_state() == "Trusted"
    pixels = [Image.open(io.BytesIO(content)).tobytes() for content in (png, signed.picture)]
    assert pixels[0] == pixels[1]


def test_contributors_are_ingredients_where_that_is_wanted(
    signing: Settings, record: Record, png: bytes
) -> None:
    rows = record.result["contributors"]
    rows.append(rows[0] | {"rank": 4, "key": "copy.png"})
    copied = replace(record, contents=record.contents | {"copy.png": record.contents["a.png"]})
    wanted = signing.model_copy(update={"c2pa_contributors": "ingredients"})
    signed = sign(wanted, copied, png)
    for content, manifest_data in ((signed.picture, None), (png, signed.sidecar)):
        with c2pa.Reader("image/png", io.BytesIO(content), manifest_data=manifest_data) as reader:
            assert reader.get_validation_state() == "Valid"
            manifest = manifest_of(reader)
        inputs = [part for part in manifest["ingredients"] if part["relationship"] == "inputTo"]
        assert [(part["instance_id"], part["data_types"][0]["type"]) for part in inputs] == [
            (f"sha256:{'c' * 64}", "c2pa.types.model"),
            (f"sha256:{'1' * 64}", "c2pa.types.dataset"),
            (f"sha256:{'2' * 64}", "c2pa.types.dataset"),
        ]
        assert "a.png" not in json.dumps(manifest)


def test_a_sidecar_belongs_to_the_picture_as_it_was(
    signing: Settings, record: Record, png: bytes
) -> None:
    sidecar = sign(signing, record, png).sidecar
    with c2pa.Reader("image/png", io.BytesIO(png), manifest_data=sidecar) as reader:
        assert reader.get_validation_state() == "Valid"
        check(manifest_of(reader), record)
    other = io.BytesIO()
    Image.new("RGB", (64, 48)).save(other, "PNG")
    with c2pa.Reader("image/png", io.BytesIO(other.getvalue()), manifest_data=sidecar) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_a_changed_picture_is_found_out(signing: Settings, record: Record, png: bytes) -> None:
    content = bytearray(sign(signing, record, png).picture)
    content[-40] ^= 1
    with c2pa.Reader("image/png", io.BytesIO(bytes(content))) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_the_assertion_matches_its_schema_and_names_contents_alone(record: Record) -> None:
    data = assertion(record)
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(data, schema())
    assert [part["instance_id"][:8] for part in data["contributors"]] == ["sha256:1", "sha256:2"]
    assert data["subject"] == {"alg": "sha256", "hash": "a" * 64, "media_type": "image/jpeg"}
    assert "older.png" not in json.dumps(data)
    assert "a.png" not in json.dumps(data)
    assert "std_error" not in data["contributors"][1]
    broken = data | {"surprise": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema())


@pytest.mark.parametrize(
    "domain", ["c2pa", "c2pa.x", "cawg.x", "org", "org..x", "org.__x", "ORG.x", "org.x/y", ""]
)
def test_domains_that_are_not_ours_are_refused(domain: str) -> None:
    with pytest.raises(ValidationError, match="reversed domain"):
        Settings(c2pa_domain=domain)


def test_what_cannot_be_signed_with_is_said(
    record: Record, png: bytes, signing: Settings, identity: Identity, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(identity.authority)
    for changed, said in (
        ({"c2pa_certificate": authority}, "not fit"),
        ({"c2pa_private_key": tmp_path / "none.pem"}, "cannot be read"),
        ({"c2pa_private_key": signing.c2pa_certificate}, "not fit"),
        ({"c2pa_certificate": None}, "no certificate"),
    ):
        with pytest.raises(SigningError, match=said):
            sign(signing.model_copy(update=changed), record, png)


def test_prov_is_linked_data_that_says_how_much(record: Record) -> None:
    graph = rdflib.Graph().parse(data=json.dumps(prov(record)), format="json-ld")
    found = graph.query(
        """
        PREFIX prov: <http://www.w3.org/ns/prov#> PREFIX hw: <urn:headwater:terms:>
        PREFIX foaf: <http://xmlns.com/foaf/0.1/>
        SELECT ?image ?share ?name WHERE {
            ?picture prov:wasDerivedFrom ?model ; prov:qualifiedInfluence ?influence .
            ?influence prov:entity ?image ; hw:share ?share ; prov:hadActivity ?activity .
            ?activity prov:used ?model ; prov:endedAtTime ?end .
            OPTIONAL { ?image prov:wasAttributedTo ?agent . ?agent foaf:name ?name }
        } ORDER BY DESC(?share)
        """
    )
    plain = graph.query(
        """
        PREFIX prov: <http://www.w3.org/ns/prov#>
        SELECT ?image { ?picture prov:wasInfluencedBy ?image ; prov:wasDerivedFrom ?model }
        """
    )
    assert {image for (image,) in plain} == {image for image, _, _ in found}
    rows = [(str(image), float(share), name and str(name)) for image, share, name in found]
    assert rows[0] == (f"urn:sha256:{'1' * 64}", 0.5, "Ada")
    assert [share for _, share, _ in rows] == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert re.fullmatch(r"urn:headwater:sample:[0-9a-f]{32}", rows[2][0])


def test_a_receipt_holds_the_question_and_the_scores(record: Record) -> None:
    content = json.loads(receipt(record).model_dump_json(exclude_unset=True, by_alias=True))
    assert content["schema"] == "urn:headwater:schema:receipt:1"
    assert content["question"] == {
        "caption": "a cat", "method": "das", "candidates": "exhaustive"
    }  # fmt: skip
    assert content["contributors"][0] == {
        "rank": 1, "key": "a.png", "score": 2.0, "effect": -1.5
    }  # fmt: skip
    assert content["rests_on"] == record.result["rests_on"]
    shown = json.loads(json.dumps(record.result))  # as a client gets it
    whole = json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()
    assert content["result_sha256"] == hashlib.sha256(whole).hexdigest()
