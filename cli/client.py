"""The HTTP API as a Python object: register, build, ask, wait."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from cli.errors import CommandError

Json = dict[str, Any]
OnProgress = Callable[[str, float], None]

# Registering a model hashes its weights before the server answers.
TIMEOUT = httpx.Timeout(300, connect=5)
EVENTS = "text/event-stream"


class ServerError(CommandError):
    """The server refused, failed or is not there; the text is its problem's title and detail."""


class Client:
    """Talks to one Headwater server.

    Paths to models and datasets are read by the server, pictures are sent to it.  The methods
    that wait call ``on_progress(stage, fraction)`` after each look.
    """

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        """``api_key``, or HEADWATER_API_KEY, where the installation asks for one."""
        self.base_url = base_url.rstrip("/")
        key = api_key or os.environ.get("HEADWATER_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(timeout=TIMEOUT, headers=headers)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def register_dataset(
        self,
        name: str,
        path: Path,
        fields: Mapping[str, str] | None = None,
        *,
        skip_invalid: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """Register training images; the same ones again are no error.

        ``fields`` says under which name the data has what; ``skip_invalid`` leaves out what cannot
        be used (``refused_images`` lists it).
        """
        body = {"name": name, "path": str(path.absolute())}
        wanted = body | {"fields": dict(fields or {}), "skip_invalid": skip_invalid}
        headers = {"Accept": f"{EVENTS}, application/json"}
        request = self._http.build_request(
            "POST", f"{self.base_url}/v1/datasets", json=wanted, headers=headers
        )
        response = self._opened(request, stream=True)
        try:
            if EVENTS not in response.headers["Content-Type"]:
                known: Json = json.loads(response.read())
                return known
            return self._registered(response, on_progress)
        except httpx.HTTPError as error:
            raise self._away(error) from None
        finally:
            response.close()

    def refused_images(self, dataset: str) -> list[Json]:
        """What the registration of a dataset left out, and why."""
        found: list[Json] = []
        cursor = ""
        while True:
            page: Json = self._send(
                "GET",
                f"/v1/datasets/{quote(dataset, safe='')}/refused",
                params={"limit": 200} | ({"cursor": cursor} if cursor else {}),
            ).json()
            found += page["items"]
            if not (cursor := page["next_cursor"]):
                return found

    def _registered(self, response: httpx.Response, on_progress: OnProgress | None) -> Json:
        """Follow a registration to its end."""
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told: Json = json.loads(line.removeprefix("data: "))
                if name == "dataset":
                    return told
                if name == "problem":
                    raise ServerError(_explain(told, "the registration failed"))
                if on_progress:
                    refused = f"{told['refused']} refused" if told["refused"] else ""
                    on_progress(refused, told["done"] / told["total"])
        raise ServerError("the server broke off; nothing was registered")

    def register_model(
        self, name: str, path: Path, clip_path: Path, lora_path: Path | None = None
    ) -> Json:
        """Register a diffusers directory, perhaps a LoRA on it, and the open_clip directory."""
        paths = {"path": path, "clip_path": clip_path, "lora_path": lora_path}
        body = {what: str(path.absolute()) for what, path in paths.items() if path}
        return self._post("/v1/models", json={"name": name, **body})

    def build_index(
        self,
        model: str,
        dataset: str,
        config: Json,
        *,
        method: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """Build an index, or find an equal one, and return it once it is ready.

        ``method`` is one that it shall answer; ``config`` says how its knobs differ from that
        method's own.
        """
        body = _given({"model": model, "dataset": dataset, "method": method, "config": config})
        index = self._post("/v1/indexes", json=body)
        index = self._follow(f"/v1/indexes/{index['id']}", "state", {"building"}, on_progress)
        if index["state"] != "ready":
            raise ServerError(_explain(index["problem"], f"index {index['id']} failed"))
        return index

    def record_evidence(self, model: str, dataset: str, report: Json) -> Json:
        """Tell the server what ``evaluate lds`` measured of a model's methods."""
        body = {"dataset": dataset, "report": report}
        return self._post(f"/v1/models/{quote(model, safe='')}/evidence", json=body)

    def attribute_image(
        self,
        image: Path | bytes,
        *,
        on_progress: OnProgress | None = None,
        **question: Any,
    ) -> Json:
        """Upload a picture and return the answer, as ``wait`` does.

        ``question``: ``caption``, ``model``, ``index``, ``method``, ``top_k``, ``candidates``,
        ``candidate_count``; what is None or left out is the server's choice.
        """
        content, name = (
            (image.read_bytes(), image.name) if isinstance(image, Path) else (image, "image")
        )
        form = {field: str(value) for field, value in _given(question).items()}
        accepted = self._post("/v1/attributions", files={"image": (name, content)}, data=form)
        return self.wait(accepted["id"], on_progress)

    def attribute_prompt(
        self, prompt: str, *, on_progress: OnProgress | None = None, **question: Any
    ) -> Json:
        """Let the server draw a picture, and return the answer about it, as ``wait`` does.

        ``question`` may also hold ``seed``, ``steps``, ``guidance_scale``, ``negative_prompt``.
        """
        accepted = self._post("/v1/attributions", json={"prompt": prompt} | _given(question))
        return self.wait(accepted["id"], on_progress)

    def wait(self, attribution_id: str, on_progress: OnProgress | None = None) -> Json:
        """Wait for an attribution; return its result with its ``id`` added."""
        path = f"/v1/attributions/{attribution_id}"
        job = self._follow(path, "status", {"queued", "running"}, on_progress)
        if job["status"] != "succeeded":
            raise ServerError(_explain(job["problem"], f"{attribution_id} has {job['status']}"))
        return {"id": attribution_id, **job["result"]}

    def get_image(self, attribution_id: str) -> bytes:
        """The picture that an attribution is about, as PNG."""
        return self._send("GET", f"/v1/attributions/{attribution_id}/image").content

    def get_receipt(self, attribution_id: str) -> Json:
        """What ``headwater verify`` computes an answer again from."""
        receipt: Json = self._send("GET", f"/v1/attributions/{attribution_id}/receipt").json()
        return receipt

    def _follow(
        self, path: str, state: str, unfinished: set[str], on_progress: OnProgress | None
    ) -> Json:
        """Look as often as the server's ``Retry-After`` allows until the work has ended."""
        while True:
            response = self._send("GET", path)
            found: Json = response.json()
            if on_progress:
                progress = found["progress"]
                on_progress(progress["stage"] or found[state], progress["fraction"])
            if found[state] not in unfinished:
                return found
            time.sleep(float(response.headers.get("Retry-After", 1)))

    def _post(self, path: str, **content: Any) -> Json:
        answer: Json = self._send("POST", path, **content).json()
        return answer

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            request = self._http.build_request(method, self.base_url + path, **content)
        except httpx.InvalidURL as error:
            raise self._away(error) from None
        return self._opened(request)

    def _opened(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The server's answer, which is no problem."""
        try:
            response = self._http.send(request, stream=stream)
            if response.is_success:
                return response
            response.read()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(error) from None
        unnamed = f"{self.base_url} answered {response.status_code} {response.reason_phrase}"
        try:
            problem = response.json()
        except ValueError:
            raise ServerError(unnamed) from None
        raise ServerError(_explain(problem, unnamed))

    def _away(self, error: Exception) -> ServerError:
        if isinstance(error, httpx.ConnectError):
            return ServerError(f"no server at {self.base_url}: start one with `headwater serve`")
        return ServerError(f"{self.base_url}: {error or type(error).__name__}")


def _given(question: Json) -> Json:
    return {field: value for field, value in question.items() if value is not None}


def _explain(problem: object, otherwise: str) -> str:
    """A problem's title and detail in one line."""
    if not isinstance(problem, dict) or "title" not in problem:
        return otherwise
    detail = problem.get("detail")
    return f"{problem['title']}: {detail}" if detail else str(problem["title"])
