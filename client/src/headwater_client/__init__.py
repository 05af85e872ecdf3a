"""Ask a Headwater server which training images a picture came from.

>>> from headwater_client import Client
>>> with Client("http://localhost:8000") as client:  # doctest: +SKIP
...     asked = client.attributions.ask_about_image("picture.png", caption="a cat")
...     for owner in client.attributions.wait(asked).answer.by_creator:
...         print(owner.creator, owner.share)
"""

from headwater_client import webhooks
from headwater_client.client import AsyncClient, Client
from headwater_client.errors import (
    HeadwaterError,
    JobError,
    JobFailedError,
    UnreachableError,
    WaitTimeoutError,
    WebhookForgedError,
)
from headwater_client.models.problem import Problem
from headwater_client.retries import Retries

__all__ = [
    "AsyncClient",
    "Client",
    "HeadwaterError",
    "JobError",
    "JobFailedError",
    "Problem",
    "Retries",
    "UnreachableError",
    "WaitTimeoutError",
    "WebhookForgedError",
    "webhooks",
]
