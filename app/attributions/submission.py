"""Reading ``POST /v1/attributions``: a form with a picture, or JSON with a prompt or a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from app.attributions.schemas import ImageQuestion, PromptQuestion, UrlQuestion
from app.problems import ProblemError

Body = TypeVar("Body", bound=BaseModel)

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **ImageQuestion.model_json_schema(),
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        **ImageQuestion.model_json_schema()["properties"],
                    },
                    "required": ["image"],
                },
                "example": {"image": "(the file)", "caption": "a cat", "top_k": 10},
            },
            "application/json": {
                "schema": {
                    "oneOf": [
                        PromptQuestion.model_json_schema(),
                        UrlQuestion.model_json_schema(),
                    ]
                },
                "examples": {
                    "a prompt": {"value": {"prompt": "a cat", "seed": 7}},
                    "a URL": {"value": {"image_url": "https://example.org/picture.png"}},
                },
            },
        },
    }
}
"""For OpenAPI: FastAPI can describe one media type of a body, this route takes two."""


@dataclass(frozen=True)
class ImageSubmission:
    """A picture as it was sent, and what is asked about it."""

    content: bytes
    question: ImageQuestion


async def read_submission(request: Request) -> ImageSubmission | UrlQuestion | PromptQuestion:
    """Parse the body by its media type; another type is a 415 problem."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_form(request)
    if media_type == "application/json":
        try:
            values = from_json(await request.body())
        except ValueError as error:
            raise ProblemError(422, "invalid-json", "The body is not JSON", str(error)) from None
        if isinstance(values, dict) and "image_url" in values:
            return _validated(UrlQuestion, values)
        return _validated(PromptQuestion, values)
    raise ProblemError(
        415,
        "media-type",
        "The media type is not supported",
        "send multipart/form-data with `image`, or application/json with `prompt` or `image_url`",
    )


async def _read_form(request: Request) -> ImageSubmission:
    async with request.form(max_files=1, max_fields=20) as form:
        values = dict(form)
        image = values.pop("image", None)
        if not isinstance(image, UploadFile):
            raise ProblemError(422, "image-missing", "The form has no file named `image`")
        return ImageSubmission(await image.read(), _validated(ImageQuestion, values))


def _validated(schema: type[Body], values: Any) -> Body:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        ) from None
