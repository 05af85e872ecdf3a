"""Opt-outs are read from real files, and a file that is broken says nothing."""

from __future__ import annotations

import io
from typing import Any

import c2pa
import pytest
from PIL import Image, PngImagePlugin
from signing_identity import Identity

from app.provenance.opt_outs import read_opt_out, refused_uses


def picture(kind: str = "PNG", xmp: bytes = b"") -> bytes:
    content = io.BytesIO()
    image = Image.new("RGB", (16, 16), "red")
    if kind == "PNG" and xmp:
        told = PngImagePlugin.PngInfo()
        told.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(content, kind, pnginfo=told)
    else:
        image.save(content, kind, **({"xmp": xmp} if xmp else {}))
    return content.getvalue()


def signed(identity: Identity, label: str, entries: dict[str, Any], kind: str = "PNG") -> bytes:
    media_type = f"image/{kind.lower()}"
    manifest = {
        "claim_generator_info": [{"name": "a camera", "version": "1"}],
        "assertions": [{"label": label, "data": {"entries": entries}}],
    }
    with c2pa.Builder(manifest) as builder:
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
        )
        out = io.BytesIO()
        builder.sign(identity.signer(), media_type, io.BytesIO(picture(kind)), out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_signed_file_says_what_it_does_not_allow(identity: Identity, kind: str) -> None:
    entries = {
        "cawg.ai_generative_training": {"use": "notAllowed"},
        "cawg.ai_inference": {"use": "allowed"},
        "cawg.data_mining": {"use": "constrained"},
        "cawg.ai_training": {"use": "constrained", "constraint_info": "ask ada"},
    }
    assert read_opt_out(signed(identity, "cawg.training-mining", entries, kind)) == {
        "cawg.ai_generative_training": "notAllowed",
        "cawg.data_mining": "notAllowed",
        "cawg.ai_training": "constrained: ask ada",
    }


def test_the_older_assertion_is_read_too(identity: Identity) -> None:
    entries = {"c2pa.ai_training": {"use": "notAllowed"}}
    content = signed(identity, "c2pa.training-mining", entries)
    assert read_opt_out(content) == {"c2pa.ai_training": "notAllowed"}


@pytest.mark.parametrize("spelling", ["constraint_info", "constraints_info"])
def test_both_spellings_of_constraints(spelling: str) -> None:
    entries = {"a": {"use": "constrained", spelling: "research"}}
    assert refused_uses({"entries": entries}) == {"a": "constrained: research"}


@pytest.mark.parametrize("data", [None, [], {"entries": []}, {"entries": {"a": 1}}, {"b": {}}])
def test_strange_assertions_say_nothing(data: object) -> None:
    assert refused_uses(data) == {}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "said",
    [
        b"<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</plus:DataMining>",
        b'<rdf:Description plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"/>',
        b'<plus:DataMining\n rdf:resource="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"/>',
    ],
)
def test_the_plus_property_in_xmp(kind: str, said: bytes) -> None:
    assert read_opt_out(picture(kind, said)) == {"plus.DataMining": "DMI-PROHIBITED"}
    allowed = said.replace(b"DMI-PROHIBITED", b"DMI-ALLOWED")
    assert read_opt_out(picture(kind, allowed)) is None


def test_broken_manifests_say_nothing(identity: Identity) -> None:
    content = signed(identity, "cawg.training-mining", {"a": {"use": "notAllowed"}})
    for cut in (200, 1000, len(content) - 40):
        read_opt_out(content[:cut])  # whatever it finds, it does not raise
    # What the assertion says is no CBOR: the manifest is not among those that are read.
    assert read_opt_out(content.replace(b"\xa1gentries", b"\xffgentries")) is None
    assert read_opt_out(b"\x89PNG jumb caBX") is None
    assert read_opt_out(b"") is None
