"""What can go wrong, always with a problem (RFC 9457) that says what it is."""

from __future__ import annotations

from headwater_client.models.problem import Problem

PREFIX = "urn:headwater:client:"


class HeadwaterError(Exception):
    """The server refused or failed, or something stood between it and the client."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        """``retry_after`` are the seconds that the server wants to be left alone, if it said so."""
        super().__init__(problem, retry_after)
        self.problem = problem
        self.retry_after = retry_after

    def __str__(self) -> str:
        title = self.problem.title or f"the server answered {self.problem.status}"
        return f"{title}: {self.problem.detail}" if self.problem.detail else title


class UnreachableError(HeadwaterError):
    """No server answered, as often as it was tried."""


class WaitTimeoutError(HeadwaterError, TimeoutError):
    """What was waited for did not come in time; it may still come."""


class JobError(HeadwaterError):
    """Work was accepted and did not succeed: it ``failed``, was ``canceled`` or has ``expired``."""

    def __init__(self, problem: Problem, job_id: str, status: str) -> None:
        super().__init__(problem)
        self.args = (problem, job_id, status)
        self.job_id = job_id
        self.status = status


class JobFailedError(JobError):
    """Work has failed; ``problem`` is the one inside the job."""


class WebhookForgedError(HeadwaterError):
    """A message that is not signed with the secret, or not just now."""


def client_problem(kind: str, title: str, detail: str | None = None) -> Problem:
    """A problem that the client itself has found."""
    return Problem(type=PREFIX + kind, title=title, detail=detail)
