"""``/`` and its neighbours: shells that hold no data of anybody.

What they show they ask the API for, in the browser, with the caller's own key: who may see what is
decided in one place.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.dependencies import SettingsDep
from app.problems import ProblemError
from app.web.assets import Assets
from app.web.security_headers import SECURITY_HEADERS

FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

assets = Assets.of_package()
templates = Environment(
    loader=PackageLoader("app.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
templates.globals["asset"] = assets.url


def _page(name: str, settings: SettingsDep) -> HTMLResponse:
    shell = templates.get_template(f"{name}.html").render(access=settings.access)
    return HTMLResponse(shell, headers=SECURITY_HEADERS | {"Cache-Control": "no-cache"})


@router.get("/")
def ask(settings: SettingsDep) -> HTMLResponse:
    """Where a question is put."""
    return _page("ask", settings)


@router.get("/answers")
def answers(settings: SettingsDep) -> HTMLResponse:
    """All that was asked."""
    return _page("answers", settings)


@router.get("/answers/{attribution}")
def answer(attribution: str, settings: SettingsDep) -> HTMLResponse:
    """One question, its progress, and its answer."""
    return _page("answer", settings)


@router.get("/datasets")
def datasets(settings: SettingsDep) -> HTMLResponse:
    """The datasets, and what was taken down of them."""
    return _page("datasets", settings)


@router.get("/datasets/{dataset}")
def dataset(dataset: str, settings: SettingsDep) -> HTMLResponse:
    """One dataset's training images."""
    return _page("dataset", settings)


@router.get("/sample")
def sample(settings: SettingsDep) -> HTMLResponse:
    """One training image, named by ``dataset`` and ``key`` in the query: keys hold slashes."""
    return _page("sample", settings)


@router.get("/contributors")
def contributors(settings: SettingsDep) -> HTMLResponse:
    """The creators."""
    return _page("contributors", settings)


@router.get("/contributor")
def contributor(settings: SettingsDep) -> HTMLResponse:
    """One creator, named by ``creator`` in the query: where did my pictures go?"""
    return _page("contributor", settings)


@router.get("/models")
def models(settings: SettingsDep) -> HTMLResponse:
    """The models."""
    return _page("models", settings)


@router.get("/models/{model}")
def model(model: str, settings: SettingsDep) -> HTMLResponse:
    """One model with its indexes, also while they are built."""
    return _page("model", settings)


@router.get("/static/{digest}/{name}")
def static(digest: str, name: str) -> Response:
    """A file of the page; one of another release must not be kept under that release's name."""
    asset = assets.by_name.get(name)
    if asset is None:
        raise ProblemError(404, "", "Not Found")
    caching = FOR_EVER if digest == assets.digest else "no-store"
    headers = SECURITY_HEADERS | {"Cache-Control": caching}
    return Response(asset.content, media_type=asset.media_type, headers=headers)
