"""Operations of the API, described once, called with and without ``await``.

A resource's method says what it sends and how it reads the answer (``Ask``).  ``@operation`` makes
a descriptor of it that returns the answer on a ``Client`` and a coroutine of it on an
``AsyncClient``; type checkers see which.  Methods that take several steps are ``@flow``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from urllib.parse import quote

import httpx

from headwater_client.exchange import Exchange, Flow, Picture
from headwater_client.retries import Retries, persist
from headwater_client.runners import AsyncRunner, R, Runner

P = ParamSpec("P")
T = TypeVar("T")


class Identified(Protocol):
    """Something that came from the server."""

    @property
    def id(self) -> str:
        """Its id."""


Ref = str | Identified
"""An id (or a name, where the API takes names), or what has one."""


class Resource(Generic[R]):
    """A group of operations."""

    def __init__(self, runner: R) -> None:
        self.runner: R = runner


@dataclass(frozen=True)
class Ask(Generic[T]):
    """What a call sends beside its path, and how the answer is read; None is left out.

    ``repeatable`` and ``patience`` are those of ``Exchange``; ``retries`` stand in
    for the client's.
    """

    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, Any] | None = None
    picture: Picture | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    patience: float = 0.0
    retries: Retries | None = None


@dataclass(frozen=True)
class Route:
    """A method and a path of the API, as its OpenAPI document writes them."""

    method: str
    template: str

    def exchange(self, ask: Ask[Any], places: Mapping[str, Any], stream: bool = False) -> Exchange:
        """The request; ``places`` holds what stands in the path, among other arguments."""
        parts = {
            name: quote(identifier(value), safe="/" if name == "key" else "")
            for name, value in places.items()
            if f"{{{name}}}" in self.template
        }
        return Exchange(
            self.method,
            self.template.format(**parts),
            params=as_text(ask.params),
            headers=ask.headers,
            json=None if ask.json is None else given(ask.json),
            form=None if ask.form is None else as_text(ask.form),
            picture=ask.picture,
            repeatable=ask.repeatable,
            patience=ask.patience,
            stream=stream,
        )


class Operation(Generic[P, T]):
    """A method of a resource that takes the steps of a flow.

    On the class it is itself, and ``start`` begins the flow within another one.
    """

    def __init__(
        self, start: Callable[Concatenate[Any, P], Flow[T]], routes: Iterable[Route] = ()
    ) -> None:
        self.start = start
        self.routes = frozenset(routes)
        update_wrapper(cast(Callable[..., Any], self), start)

    @overload
    def __get__(self, resource: None, owner: type) -> Operation[P, T]: ...

    @overload
    def __get__(self, resource: Resource[Runner], owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(
        self, resource: Resource[AsyncRunner], owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, resource: Resource[Any] | None, owner: type) -> Any:
        if resource is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource.runner.run(self.start(resource, *args, **kwargs))

        return update_wrapper(call, self.start)


def flow(start: Callable[Concatenate[Any, P], Flow[T]]) -> Operation[P, T]:
    """Let a method that yields steps be called."""
    return Operation(start)


def operation(
    method: str, template: str
) -> Callable[[Callable[Concatenate[Any, P], Ask[T]]], Operation[P, T]]:
    """Let a method be one operation of the API.

    Arguments of the method that are named in the ``template`` stand in the path.
    """
    route = Route(method, template)

    def decorate(describe: Callable[Concatenate[Any, P], Ask[T]]) -> Operation[P, T]:
        signature = inspect.signature(describe)

        def start(resource: Any, /, *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
            ask = describe(resource, *args, **kwargs)
            places = signature.bind(resource, *args, **kwargs).arguments
            exchange = route.exchange(ask, places)
            retries = ask.retries or resource.runner.retries
            return ask.read((yield from persist(exchange, retries)))

        update_wrapper(start, describe)
        return Operation(start, [route])

    return decorate


def identifier(reference: Ref) -> str:
    """The id in a reference."""
    return reference if isinstance(reference, str) else reference.id


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not None."""
    return {name: value for name, value in values.items() if value is not None}


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """What is not None, as forms and queries write it."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in given(values).items()
    }
