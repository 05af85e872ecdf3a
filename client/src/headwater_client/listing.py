"""Lists: page after page is fetched while one iterates."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from headwater_client.exchange import Flow
from headwater_client.models.base import Page
from headwater_client.operation import Ask, Resource, Route
from headwater_client.retries import persist
from headwater_client.runners import AsyncRunner, Runner

P = ParamSpec("P")
Item = TypeVar("Item")


class Listing(Generic[P, Item]):
    """A method of a resource that iterates over items."""

    def __init__(
        self, route: Route, describe: Callable[Concatenate[Any, P], Ask[Page[Item]]]
    ) -> None:
        self.routes = frozenset({route})
        self._route = route
        self._describe = describe
        self._signature = inspect.signature(describe)
        update_wrapper(cast(Callable[..., Any], self), describe)

    @overload
    def __get__(self, resource: None, owner: type) -> Listing[P, Item]: ...

    @overload
    def __get__(self, resource: Resource[Runner], owner: type) -> Callable[P, Iterator[Item]]: ...

    @overload
    def __get__(
        self, resource: Resource[AsyncRunner], owner: type
    ) -> Callable[P, AsyncIterator[Item]]: ...

    def __get__(self, resource: Resource[Any] | None, owner: type) -> Any:
        if resource is None:
            return self
        runner = resource.runner

        def call(*args: P.args, **kwargs: P.kwargs) -> Iterator[Item] | AsyncIterator[Item]:
            def page(cursor: str | None) -> Flow[Page[Item]]:
                return self._page(cursor, resource, *args, **kwargs)

            if isinstance(runner, Runner):
                return each(runner, page)
            return each_async(runner, page)

        return update_wrapper(call, self._describe)

    def _page(
        self, cursor: str | None, resource: Resource[Any], *args: P.args, **kwargs: P.kwargs
    ) -> Flow[Page[Item]]:
        ask = self._describe(resource, *args, **kwargs)
        ask = replace(ask, params={**ask.params, "cursor": cursor})
        places = self._signature.bind(resource, *args, **kwargs).arguments
        exchange = self._route.exchange(ask, places)
        return ask.read((yield from persist(exchange, resource.runner.retries)))


def listing(
    template: str,
) -> Callable[[Callable[Concatenate[Any, P], Ask[Page[Item]]]], Listing[P, Item]]:
    """Let a method iterate over the pages at a path."""
    return lambda describe: Listing(Route("GET", template), describe)


def each(runner: Runner, page: Callable[[str | None], Flow[Page[Item]]]) -> Iterator[Item]:
    """The items of all pages."""
    shown = runner.run(page(None))
    yield from shown.items
    while shown.next_cursor is not None:
        shown = runner.run(page(shown.next_cursor))
        yield from shown.items


async def each_async(
    runner: AsyncRunner, page: Callable[[str | None], Flow[Page[Item]]]
) -> AsyncIterator[Item]:
    """The items of all pages."""
    shown = await runner.run(page(None))
    for item in shown.items:
        yield item
    while shown.next_cursor is not None:
        shown = await runner.run(page(shown.next_cursor))
        for item in shown.items:
            yield item
