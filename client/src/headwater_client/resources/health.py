"""``client.health``: whether the server is there, and whether it will answer."""

from __future__ import annotations

from headwater_client.answers import no_body
from headwater_client.errors import HeadwaterError
from headwater_client.exchange import Flow
from headwater_client.operation import Ask, Resource, flow, operation
from headwater_client.retries import Retries
from headwater_client.runners import R

ONCE = Retries(attempts=1)


class Health(Resource[R]):
    """Questions about the installation, asked once."""

    @operation("GET", "/livez")
    def check_live(self) -> Ask[None]:
        """An error unless the process answers."""
        return Ask(no_body, retries=ONCE)

    @operation("GET", "/readyz")
    def check_ready(self) -> Ask[None]:
        """An error that says why, unless questions will be answered."""
        return Ask(no_body, retries=ONCE)

    @flow
    def is_ready(self) -> Flow[bool]:
        """Whether questions will be answered."""
        try:
            yield from Health.check_ready.start(self)
        except HeadwaterError:
            return False
        return True
