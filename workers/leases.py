"""Holding a job: a thread extends the lease, and the work finds out when the job is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.database.engine import Database
from app.jobs.claims import Claim, LeaseLostError, extend_lease, give_back, report_progress
from app.tracing import begin_stage
from workers.shutdown import time_is_up

REPORT_SECONDS = 0.5
LOOK_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Lease:
    """A claimed job, while it is worked on; a context manager."""

    def __init__(self, database: Database, settings: Settings, claim: Claim) -> None:
        self.claim = claim
        self._database = database
        self._settings = settings
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._stage = ""
        self._end_span: Callable[[], None] = lambda: None
        self._reported = self._entered = time.monotonic()
        self.stages: defaultdict[str, float] = defaultdict(float)
        """Seconds in each stage that has ended."""
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        """Start the heartbeat."""
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the heartbeat."""
        self._end_stage()
        self._ended.set()
        self._heart.join()

    def report(self, stage: str, fraction: float) -> None:
        """Show progress, at most twice a second and at each new stage.

        Raises ``LeaseLostError`` when the job was canceled or given to another worker: this is
        how the work learns that it should stop.
        """
        if self._lost.is_set():
            raise LeaseLostError
        if stage == self._stage and time.monotonic() < self._reported + REPORT_SECONDS:
            return
        if stage != self._stage:
            self._end_stage()
            self._stage, self._end_span = stage, begin_stage(stage)
        self._reported = time.monotonic()
        with self._database.write() as session:
            report_progress(session, self.claim, stage, fraction)

    def _end_stage(self) -> None:
        now = time.monotonic()
        if self._stage:
            self.stages[self._stage] += now - self._entered
            self._end_span()
        self._entered = now

    def _beat(self) -> None:
        pause = self._settings.lease_seconds / 4
        extended = time.monotonic()
        while not self._ended.wait(min(pause, LOOK_SECONDS)):
            try:
                if time_is_up():
                    self._give_back()
                    return
                if time.monotonic() > extended + pause:
                    with self._database.write() as session:
                        extend_lease(session, self._settings, self.claim)
                    extended = time.monotonic()
            except LeaseLostError:
                self._lost.set()
                return
            except SQLAlchemyError:
                logger.warning("the lease was not extended", exc_info=True)

    def _give_back(self) -> None:
        # From here, since the work may be deep in one long step: whatever it still writes is
        # refused, and at its next report it learns that it should stop.
        with self._database.write() as session:
            give_back(session, self._settings, self.claim)
        self._lost.set()
        logger.info("%s goes back to the queue: the worker is stopping", self.claim.job_id)
