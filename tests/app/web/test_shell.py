"""The pages without a browser: no data in them, nothing that a browser could be made to run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.web.assets import Assets
from app.web.routes import assets

PATHS = (
    *("/", "/answers", "/answers/atr_1", "/datasets", "/datasets/dts_1", "/sample"),
    *("/contributors", "/contributor", "/models", "/models/mdl_1"),
)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """An API over an empty database without tables: shells ask it for nothing."""
    home: Path = tmp_path_factory.mktemp("home")
    return TestClient(create_app(Settings(home=home, database_url="sqlite://")))


@pytest.mark.parametrize("path", PATHS)
def test_a_page_forbids_what_it_does_not_need(http: TestClient, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", PATHS)
def test_all_that_a_page_loads_is_ours_and_there(http: TestClient, path: str) -> None:
    shell = http.get(path).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", shell)
    loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', shell)
    assert len(loaded) >= 4
    assert not re.search(r'(?:src|href)="(?:https?:)?//', shell)
    for address in loaded:
        assert http.get(address).status_code == 200, address


def test_every_module_that_a_module_imports_is_there() -> None:
    for name, asset in assets.by_name.items():
        for imported in re.findall(r'from "\./([^"]+)"', asset.content.decode()):
            assert imported in assets.by_name, f"{name} imports {imported}"


def test_a_path_in_an_address_gets_into_no_shell(http: TestClient) -> None:
    assert "alert" not in http.get("/answers/<script>alert(1)<%2Fscript>").text
    assert "alert" not in http.get("/contributor?creator=<script>alert(1)</script>").text


def test_files_are_kept_for_ever_under_their_content(http: TestClient) -> None:
    """What another release is asked for is not kept: the name would stand for two contents."""
    ours = http.get(assets.url("page.css"))
    assert "immutable" in ours.headers["cache-control"]
    assert http.get("/static/0000/page.css").headers["cache-control"] == "no-store"
    assert http.get(f"/static/{assets.digest}/none.css").status_code == 404
    assert Assets({"a.js": b"1"}).digest != Assets({"a.js": b"2"}).digest


def test_pages_are_no_part_of_the_contract(http: TestClient) -> None:
    documented = http.get("/openapi.json").json()["paths"]
    programs = ("/v1/", "/schemas/", "/livez", "/readyz", "/metrics")
    assert not [path for path in documented if not path.startswith(programs)]
