"""Following an attribution by server-sent events, also over connections that break."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, cast, overload

import httpx

from headwater_client.errors import HeadwaterError, UnreachableError, client_problem
from headwater_client.exchange import Exchange, Flow, Pause
from headwater_client.models.attribution import Event
from headwater_client.operation import Resource, Route
from headwater_client.retries import Retries, persist
from headwater_client.runners import AsyncRunner, Runner

P = ParamSpec("P")


class Reading:
    """What was read of a stream so far, over all its connections."""

    def __init__(self, exchange: Exchange, last_event_id: int, retries: Retries) -> None:
        self.last_event_id = last_event_id
        self.ended = False
        self._exchange = exchange
        self._retries = retries
        self._fruitless = 0  # connections in a row that brought no event
        self._data: list[str] = []
        self._id = ""

    def connect(self) -> Flow[httpx.Response]:
        """A connection that goes on after the last event that was read."""
        if self._fruitless >= self._retries.attempts:
            title = "The stream of events breaks again and again"
            raise UnreachableError(client_problem("stream-broken", title))
        if self._fruitless:
            yield Pause(self._retries.pause(self._fruitless))
        self._fruitless += 1
        self._data, self._id = [], ""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last_event_id)}
        exchange = Exchange(
            self._exchange.method, self._exchange.path, headers=headers, stream=True
        )
        response = yield from persist(exchange, self._retries)
        self.ended = response.status_code == httpx.codes.NO_CONTENT
        return response

    def feed(self, line: str) -> Event | None:
        """The event that a line completes."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif not line and self._data:
            event = _event(self._id, "\n".join(self._data))
            self._data, self._fruitless = [], 0
            self.last_event_id, self.ended = event.id, event.last
            return event
        return None


def _event(event_id: str, data: str) -> Event:
    try:
        return Event.model_validate({"id": event_id, **json.loads(data)})
    except (ValueError, TypeError) as error:
        title = "An event of the server is not understood"
        raise HeadwaterError(client_problem("answer-not-understood", title)) from error


class Following(Generic[P]):
    """A method of a resource that iterates over the events at a path."""

    def __init__(self, route: Route, begin: Callable[Concatenate[Any, Route, P], Reading]) -> None:
        self.routes = frozenset({route})
        self._route = route
        self._begin = begin
        update_wrapper(cast(Callable[..., Any], self), begin)

    @overload
    def __get__(self, resource: None, owner: type) -> Following[P]: ...

    @overload
    def __get__(self, resource: Resource[Runner], owner: type) -> Callable[P, Iterator[Event]]: ...

    @overload
    def __get__(
        self, resource: Resource[AsyncRunner], owner: type
    ) -> Callable[P, AsyncIterator[Event]]: ...

    def __get__(self, resource: Resource[Any] | None, owner: type) -> Any:
        if resource is None:
            return self
        runner = resource.runner

        def call(*args: P.args, **kwargs: P.kwargs) -> Iterator[Event] | AsyncIterator[Event]:
            reading = self._begin(resource, self._route, *args, **kwargs)
            if isinstance(runner, Runner):
                return follow(runner, reading)
            return follow_async(runner, reading)

        return update_wrapper(call, self._begin)


def following(
    template: str,
) -> Callable[[Callable[Concatenate[Any, Route, P], Reading]], Following[P]]:
    """Let a method iterate over the events at a path."""
    return lambda begin: Following(Route("GET", template), begin)


def follow(runner: Runner, reading: Reading) -> Iterator[Event]:
    """Events until the last one."""
    while not reading.ended:
        response = runner.run(reading.connect())
        try:
            for line in response.iter_lines():
                if event := reading.feed(line):
                    yield event
        except httpx.TransportError:
            continue
        finally:
            response.close()


async def follow_async(runner: AsyncRunner, reading: Reading) -> AsyncIterator[Event]:
    """Events until the last one."""
    while not reading.ended:
        response = await runner.run(reading.connect())
        try:
            async for line in response.aiter_lines():
                if event := reading.feed(line):
                    yield event
        except httpx.TransportError:
            continue
        finally:
            await response.aclose()
