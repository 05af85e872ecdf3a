"""Refusing bodies that are too large, before anything of them is parsed."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import MEDIA_TYPE, problem_body

FORM_OVERHEAD = 65_536
"""Bytes allowed beside the picture: part headers and the other fields."""


class BodyLimit:
    """Counts the bytes that arrive, so chunked bodies are limited too.

    Starlette spools file parts to disk before a route runs, and its limit on parts does not count
    them.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 at once where the length is declared, else when it is exceeded."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            body = problem_body(413, "", "Content Too Large", self._reason())
            await JSONResponse(body, 413, media_type=MEDIA_TYPE)(scope, receive, send)
            return
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, self._reason())
            return message

        await self.app(scope, counting_receive, send)

    def _reason(self) -> str:
        return f"the body is larger than {self.max_bytes} bytes"
