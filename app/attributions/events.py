"""``/v1/attributions/{id}/events``: progress as server-sent events, replayed after a break."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from app.access.caller import opens
from app.attributions import repository
from app.attributions.schemas import TERMINAL
from app.database.engine import TenantDatabase
from app.database.tables import JobEvent
from app.dependencies import DatabaseDep
from app.jobs import events
from app.problems import ProblemError, problem_responses

POLL_SECONDS = 0.3
COMMENT_SECONDS = 15.0  # proxies close connections that say nothing
MEDIA_TYPE = "text/event-stream"

router = APIRouter(
    prefix="/v1/attributions", tags=["attributions"], dependencies=[Depends(opens("attributions"))]
)


@router.get(
    "/{attribution}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
        204: {"description": "Nothing is to come after Last-Event-ID"},
        **problem_responses(401, 403, 404, 410),
    },
)
async def follow_attribution(
    attribution: str,
    database: DatabaseDep,
    last_event_id: Annotated[int, Header(ge=0, le=2**62)] = 0,
) -> Response:
    """Every change of status and progress, from the first one, until the attribution ends.

    The last event is named ``end``.  A client that reconnects with ``Last-Event-ID`` gets what it
    has missed; after the end it gets 204, and need not come back.
    """
    seen, ended = await run_in_threadpool(_look, database, attribution, last_event_id)
    if ended and not seen:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(database, attribution, seen),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    database: TenantDatabase, attribution: str, seen: Sequence[JobEvent]
) -> AsyncIterator[str]:
    last, spoken = 0, time.monotonic()
    while True:
        for event in seen:
            yield _written(event)
            last, spoken = event.id, time.monotonic()
            if event.status in TERMINAL:
                return
        if time.monotonic() > spoken + COMMENT_SECONDS:
            yield ": still at it\n\n"
            spoken = time.monotonic()
        await anyio.sleep(POLL_SECONDS)
        try:
            seen, _ = await run_in_threadpool(_look, database, attribution, last)
        except ProblemError:  # it was deleted meanwhile
            return


def _look(
    database: TenantDatabase, attribution: str, last_seen: int
) -> tuple[Sequence[JobEvent], bool]:
    """The events after the last one seen, and whether the attribution has ended."""
    with database.read() as session:
        ended = repository.find(session, attribution).status in TERMINAL
        return events.after(session, attribution, last_seen), ended


def _written(event: JobEvent) -> str:
    name = "end" if event.status in TERMINAL else "progress"
    data = {
        "status": event.status,
        "attempt": event.attempt,
        "progress": {"stage": event.stage, "fraction": event.fraction},
        "at": event.at.isoformat(),
    }
    return f"id: {event.id}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
