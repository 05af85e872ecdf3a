"""What goes in and out at ``/v1/models/{model}/evidence``."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.indexes.methods import MethodName
from attribution.index.config import IndexConfig

Score = Annotated[float, Field(ge=-1, le=1)]


class Yardsticks(BaseModel):
    """ρ between training seeds, and the LDS that a perfect predictor would reach."""

    rho: Score
    limit: float = Field(ge=0, le=1)


class MeasuredScore(BaseModel):
    """One row of a report: a method under one configuration on one set of queries."""

    method: MethodName
    query_set: str = Field(min_length=1, max_length=200)
    damping: Literal["label-free", "oracle"] | None
    lds: Score
    std_error: float = Field(ge=0)
    of_limit: float | None
    config: Annotated[
        dict[str, Any], AfterValidator(lambda knobs: IndexConfig.from_dict(knobs).to_dict())
    ]


class Report(BaseModel):
    """What ``headwater evaluate lds`` wrote; what is not listed here is ignored."""

    date: datetime.date
    model_digest: str
    training_keys: str
    training_images: int = Field(ge=1)
    subsets: int = Field(ge=1)
    training_seeds: int = Field(ge=1)
    protocol: dict[str, Any]
    yardsticks: dict[str, Yardsticks | None]
    results: list[MeasuredScore] = Field(max_length=2000)


EVIDENCE_EXAMPLE: dict[str, Any] = {
    "dataset": "art",
    "report": {
        **{"date": "2026-11-24", "model_digest": "9f86d081…", "training_keys": "60303ae2…"},
        **{"training_images": 2000, "subsets": 64, "training_seeds": 2, "protocol": {}},
        "yardsticks": {"validation": {"rho": 0.27, "limit": 0.65}},
        "results": [
            {
                **{"method": "das", "query_set": "validation", "damping": "label-free"},
                **{"lds": 0.505, "std_error": 0.007, "of_limit": 0.77, "config": {}},
            }
        ],
    },
}


class EvidenceIn(BaseModel):
    """A report, and the dataset (id or name) whose images it speaks of."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EVIDENCE_EXAMPLE]})

    dataset: str
    report: Report


class EvidenceOut(BaseModel):
    """The linear datamodelling score of a method, as measured.

    ``lds`` is the mean over ``query_set`` ± ``std_error`` (bootstrap over subsets); ``of_limit``
    its fraction of what a perfect predictor would reach, given how far two trainings differ
    (``rho``).  ``protocol`` says how the models were trained and asked.
    """

    model_config = ConfigDict(from_attributes=True)

    method: str
    query_set: str
    lds: float
    std_error: float
    of_limit: float | None
    rho: float | None
    subsets: int
    training_seeds: int
    measured_on: datetime.date
    protocol: dict[str, Any]
