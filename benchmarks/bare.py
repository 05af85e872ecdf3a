"""What ``load.py`` compares with: as little of FastAPI as takes an upload or answers a poll."""

from __future__ import annotations

import io
import itertools

from fastapi import FastAPI, UploadFile
from PIL import Image

from app.config import Settings


def create_app() -> FastAPI:
    """Reads a picture and writes it to disk; nothing is checked, recorded or made durable."""
    application = FastAPI()
    folder, numbers = Settings().home / "bare", itertools.count()
    folder.mkdir(parents=True, exist_ok=True)

    def write(content: bytes) -> dict[str, str]:
        name = str(next(numbers))
        (folder / name).write_bytes(content)
        return {"id": name, "status": "queued"}

    @application.post("/uploads", status_code=202)
    def upload(image: UploadFile) -> dict[str, str]:
        return write(image.file.read())

    @application.post("/decoded", status_code=202)
    def upload_decoded(image: UploadFile) -> dict[str, str]:
        content = image.file.read()
        clean = io.BytesIO()
        with Image.open(io.BytesIO(content)) as picture:
            picture.convert("RGB").save(clean, "PNG", compress_level=1)
        return write(clean.getvalue())

    @application.get("/jobs/{job}")
    def get(job: str) -> dict[str, str]:
        return {"id": job, "status": "queued"}

    return application
