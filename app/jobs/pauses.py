"""How long a job rests after an attempt that failed."""

from __future__ import annotations

import random
from datetime import timedelta

from app.config import Settings
from app.database.tables import Job
from app.jobs.kinds import WEBHOOK_DELIVERY

JITTER = 0.2


def pause_after(settings: Settings, job: Job) -> timedelta:
    """Ever longer: seconds for work of our own, up to hours for somebody else's server.

    That server may have been away for everybody: its deliveries do not come back all at once.
    """
    if job.kind == WEBHOOK_DELIVERY:
        pauses = settings.webhook_pauses
        pause = pauses[min(job.attempt, len(pauses)) - 1]
        return timedelta(seconds=pause * random.uniform(1, 1 + JITTER))
    return timedelta(seconds=2 ** (job.attempt - 1))
