"""Signing a picture with its attribution, as C2PA asks for."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import c2pa

from app.config import Settings
from app.provenance.assertion import assertion
from app.provenance.record import Record

PNG, BYTES = "image/png", "application/octet-stream"


class SigningError(Exception):
    """The operator's certificate cannot be signed with; the message says why."""


@dataclass(frozen=True)
class Signed:
    """The picture with its manifest inside, and the manifest alone for a picture left as it was."""

    picture: bytes
    sidecar: bytes


def sign(settings: Settings, record: Record, png: bytes) -> Signed:
    """Sign a picture.

    We have not made it: the manifest says that it was opened, with itself as the parent, and that
    a model went into it.  The contributors stand in our own assertion, by their content.
    """
    signer = _signer(
        settings.c2pa_certificate,
        settings.c2pa_private_key,
        settings.c2pa_algorithm,
        settings.c2pa_timestamp_url,
    )
    out = io.BytesIO()
    try:
        with _builder(settings, record, png) as builder:
            builder.sign(signer, PNG, io.BytesIO(png), out)
        with _builder(settings, record, png) as builder:
            builder.set_no_embed()
            sidecar = builder.sign(signer, PNG, io.BytesIO(png), io.BytesIO())
    except c2pa.C2paError.Signature as error:
        if settings.c2pa_timestamp_url:
            raise  # the authority may only be out of reach: another attempt is worth it
        raise SigningError(f"certificate and key are not fit for signing: {error}") from None
    return Signed(out.getvalue(), sidecar)


def _builder(settings: Settings, record: Record, png: bytes) -> c2pa.Builder:
    manifest = {
        "claim_generator_info": [{"name": "Headwater", "version": version("headwater")}],
        "title": f"{record.attribution_id}.png",
        "format": PNG,
        "assertions": [
            {
                "label": f"{settings.c2pa_domain}.training-attribution",
                "data": assertion(record),
            }
        ],
    }
    builder = c2pa.Builder(manifest, context=_context())
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    picture = {"title": "the picture", "relationship": "parentOf", "format": PNG}
    builder.add_ingredient(picture, PNG, io.BytesIO(png))
    _add_input(builder, record.model_name, record.model_instance, "c2pa.types.model")
    if settings.c2pa_contributors == "ingredients":
        for number, instance in enumerate(_instances(record), start=1):
            _add_input(builder, f"training image {number}", instance, "c2pa.types.dataset")
    return builder


def _instances(record: Record) -> list[str]:
    """The listed training images by their content, in order; those of one content are one."""
    found = (record.instance(row["key"]) for row in record.result["contributors"])
    return list(dict.fromkeys(instance for instance in found if instance))


def _add_input(builder: c2pa.Builder, title: str, instance: str, kind: str) -> None:
    ingredient = {
        "title": title,
        "relationship": "inputTo",
        "format": BYTES,
        "instance_id": instance,
        "data_types": [{"type": kind}],
    }
    # Its name stands for it: weights may be gigabytes, and training images are not ours to give.
    builder.add_ingredient(ingredient, BYTES, io.BytesIO(instance.encode()))


@cache
def _context() -> c2pa.Context:
    return c2pa.Context.from_dict(
        {
            "verify": {"remote_manifest_fetch": False},
            "builder": {"thumbnail": {"enabled": False}},
        }
    )


@cache
def _signer(
    certificate: Path | None, key: Path | None, algorithm: str, timestamp_url: str
) -> c2pa.Signer:
    if certificate is None or key is None:
        raise SigningError("no certificate is configured")
    try:
        # An empty URL is not the same as none: the SDK would try to ask it.
        info = c2pa.C2paSignerInfo(
            algorithm, certificate.read_bytes(), key.read_bytes(), timestamp_url or None
        )
        return c2pa.Signer.from_info(info)
    except OSError as error:
        raise SigningError(f"{error.filename} cannot be read") from None
    except c2pa.C2paError:
        raise SigningError("certificate and key are not fit for signing") from None
