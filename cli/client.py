"""The HTTP API as a Python object: register, build, ask, wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
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

    def register_dataset(self, name: str, path: Path) -> Json:
        """Register a folder of training images; the same one again is no error."""
        return self._post("/v1/datasets", json={"name": name, "path": str(path.absolute())})

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
            response = self._http.request(method, self.base_url + path, **content)
        except httpx.ConnectError:
            raise ServerError(
                f"no server at {self.base_url}: start one with `headwater serve`"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerError(f"{self.base_url}: {error or type(error).__name__}") from None
        if response.is_success:
            return response
        unnamed = f"{self.base_url} answered {response.status_code} {response.reason_phrase}"
        try:
            problem = response.json()
        except ValueError:
            raise ServerError(unnamed) from None
        raise ServerError(_explain(problem, unnamed))


def _given(question: Json) -> Json:
    return {field: value for field, value in question.items() if value is not None}


def _explain(problem: object, otherwise: str) -> str:
    """A problem's title and detail in one line."""
    if not isinstance(problem, dict) or "title" not in problem:
        return otherwise
    detail = problem.get("detail")
    return f"{problem['title']}: {detail}" if detail else str(problem["title"])
