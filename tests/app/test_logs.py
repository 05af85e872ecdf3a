"""Logs are JSON, name request and program, and hold no text of an exception."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from app import logs
logs.configure("json", "test")
logging.getLogger("celery").warning("plain %s", "words")
structlog.contextvars.bind_contextvars(request_id="r-1", job="job_1")
def fail():
    raise ValueError("the prompt was SECRET")
try:
    try:
        fail()
    except ValueError as error:
        raise RuntimeError("SECRET too") from error
except RuntimeError:
    logging.getLogger("app.x").exception("it failed")
    told = {"route": "/v1/x", "args_of_a_task": "SECRET"}
    logging.getLogger("app.y").warning("so did this", exc_info=True, extra=told)
logging.getLogger("httpx").info("GET https://SECRET")
logging.info("a library read /SECRET/model.safetensors")
import threading, warnings
warnings.warn("an old way")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_what_a_process_says() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    assert "SECRET" not in said.stderr + said.stdout
    plain, failed, structured, warned, *uncaught = map(json.loads, said.stderr.splitlines())
    assert (plain["event"], plain["level"], plain["logger"]) == ("plain words", "warning", "celery")
    assert {"request_id": "r-1", "job": "job_1", "program": "test"}.items() <= failed.items()
    assert [cause["type"] for cause in failed["error"]] == ["RuntimeError", "ValueError"]
    assert failed["error"][1]["at"][-1].startswith("<string>:")
    assert (structured["route"], structured["error"]) == ("/v1/x", failed["error"])
    assert "an old way" in warned["event"]
    assert [line["event"] for line in uncaught] == ["uncaught error"] * 2
    assert [line["error"][0]["type"] for line in uncaught] == ["ValueError"] * 2
