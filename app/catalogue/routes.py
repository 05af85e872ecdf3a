"""``/v1/samples`` and ``/v1/contributors``."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query

from app.access.caller import opens
from app.catalogue import queries
from app.catalogue.queries import SampleFilter
from app.catalogue.schemas import CataloguedSample, Contributor
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, Sample
from app.datasets.schemas import SampleOut
from app.datasets.service import find_sample
from app.dependencies import DatabaseDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses

router = APIRouter(prefix="/v1", tags=["catalogue"], dependencies=[Depends(opens("catalogue"))])

Wanted = Annotated[str | None, Query(max_length=4000)]


@router.get("/samples", responses=problem_responses(401, 403, 404))
def search_samples(
    database: DatabaseDep,
    dataset: Wanted = None,
    key: Wanted = None,
    creator: Wanted = None,
    licence: Wanted = None,
    opted_out: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[CataloguedSample]:
    """Training images of all datasets, or of some: whose they are, and what their creators want."""
    with database.read() as session:
        named = by_id_or_name(session, Dataset, dataset).id if dataset else None
        wanted = SampleFilter(named, key, creator, licence, opted_out)
        rows = queries.samples(session, wanted, cursor, limit)
    items, following = cut_page(rows, limit, queries.place_of)
    return Page(items=[_present(sample) for sample in items], next_cursor=following)


@router.get(
    "/datasets/{dataset}/samples/{key:path}", responses=problem_responses(401, 403, 404, 410)
)
def get_sample(dataset: str, key: str, database: DatabaseDep) -> CataloguedSample:
    """One training image, with where its picture and its thumbnail are."""
    with database.read() as session:
        found = by_id_or_name(session, Dataset, dataset)
        return _present(find_sample(session, found.id, key))


@router.get("/contributors", responses=problem_responses(401, 403))
def list_contributors(
    database: DatabaseDep, creator: Wanted = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[Contributor]:
    """Creators of training images by name, or one of them, with how many and which licences."""
    with database.read() as session:
        rows = list(queries.contributors(session, creator, cursor, limit))
    items, following = cut_page(rows, limit, lambda row: row.creator)
    return Page(items=list(items), next_cursor=following)


def _present(sample: Sample) -> CataloguedSample:
    url = f"/v1/datasets/{sample.dataset_id}/samples/{quote(sample.key)}"
    return CataloguedSample(
        **SampleOut.model_validate(sample).model_dump(),
        dataset=sample.dataset_id,
        image=f"{url}/image",
        thumbnail=f"{url}/thumbnail",
    )
