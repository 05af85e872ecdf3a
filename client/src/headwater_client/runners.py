"""Taking the steps of a flow: with blocking calls, or with asynchronous ones."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

import httpx

from headwater_client.exchange import Exchange, Flow, Pause
from headwater_client.retries import Retries

T = TypeVar("T")


class Runner:
    """Takes steps one after another in the caller's thread."""

    def __init__(self, http: httpx.Client, retries: Retries) -> None:
        self.http = http
        self.retries = retries

    def run(self, flow: Flow[T]) -> T:
        """What comes of a flow."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    response = self._exchange(step)
                except httpx.RequestError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def _exchange(self, exchange: Exchange) -> httpx.Response:
        response = self.http.send(exchange.request(self.http), stream=exchange.stream)
        if exchange.stream and response.status_code != httpx.codes.OK:
            response.read()
        return response


class AsyncRunner:
    """Takes steps one after another in the caller's task."""

    def __init__(self, http: httpx.AsyncClient, retries: Retries) -> None:
        self.http = http
        self.retries = retries

    async def run(self, flow: Flow[T]) -> T:
        """What comes of a flow."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    response = await self._exchange(step)
                except httpx.RequestError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _exchange(self, exchange: Exchange) -> httpx.Response:
        response = await self.http.send(exchange.request(self.http), stream=exchange.stream)
        if exchange.stream and response.status_code != httpx.codes.OK:
            await response.aread()
        return response


R = TypeVar("R", bound=Runner | AsyncRunner)
"""One of the two."""
