"""Keeping measured scores, and finding those that speak of an index."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, Evidence, IndexVersion, Model, Sample
from app.evidence.schemas import EvidenceIn, Report
from app.identifiers import new_id
from app.problems import ProblemError
from attribution.index.config import IndexConfig


def record(database: TenantDatabase, model_name: str, wanted: EvidenceIn) -> list[Evidence]:
    """Keep a report's rows, in the place of older ones for the same configurations.

    A report on another model or other images is refused.  Rows under the best λ of a grid are left
    out: no index can have that.
    """
    report = wanted.report
    with database.write() as session:
        model = by_id_or_name(session, Model, model_name)
        dataset = by_id_or_name(session, Dataset, wanted.dataset)
        _must_speak_of(session, model, dataset, report)
        rows = [
            Evidence(
                id=new_id("evd"),
                model_id=model.id,
                dataset_id=dataset.id,
                config_digest=IndexConfig.from_dict(measured.config).digest(),
                method=measured.method,
                query_set=measured.query_set,
                lds=measured.lds,
                std_error=measured.std_error,
                of_limit=measured.of_limit,
                rho=known.rho if (known := report.yardsticks.get(measured.query_set)) else None,
                subsets=report.subsets,
                training_seeds=report.training_seeds,
                measured_on=report.date,
                protocol=report.protocol,
            )
            for measured in report.results
            if measured.damping != "oracle"
        ]
        for row in rows:
            session.execute(
                delete(Evidence).where(
                    Evidence.model_id == row.model_id,
                    Evidence.dataset_id == row.dataset_id,
                    Evidence.config_digest == row.config_digest,
                    Evidence.method == row.method,
                    Evidence.query_set == row.query_set,
                )
            )
        session.add_all(rows)
        return rows


def of_model(session: Session, model_name: str) -> Sequence[Evidence]:
    """Everything that is known of a model's methods."""
    model = by_id_or_name(session, Model, model_name)
    query = select(Evidence).where(Evidence.model_id == model.id)
    return session.scalars(query.order_by(Evidence.method, Evidence.query_set)).all()


def of_indexes(session: Session, indexes: Sequence[IndexVersion]) -> dict[str, list[Evidence]]:
    """What was measured under each version's own configuration, by the version's id."""
    found: dict[str, list[Evidence]] = {index.id: [] for index in indexes}
    if not indexes:
        return found
    conditions = [
        (Evidence.model_id == index.model_id)
        & (Evidence.dataset_id == index.dataset_id)
        & (Evidence.config_digest == index.config_digest)
        for index in indexes
    ]
    query = select(Evidence).where(or_(*conditions))
    rows = session.scalars(query.order_by(Evidence.method, Evidence.query_set)).all()
    for index in indexes:
        key = (index.model_id, index.dataset_id, index.config_digest)
        found[index.id] = [
            row for row in rows if (row.model_id, row.dataset_id, row.config_digest) == key
        ]
    return found


def keys_digest(keys: Sequence[str]) -> str:
    """How a report names the images it speaks of: SHA-256 over their sorted keys."""
    return sha256("\n".join(sorted(keys)).encode()).hexdigest()


def _must_speak_of(session: Session, model: Model, dataset: Dataset, report: Report) -> None:
    if report.model_digest != model.digest:
        raise ProblemError(
            409,
            "evidence-of-another-model",
            "The report is of another model",
            f"its weights are {report.model_digest[:12]}, the model's {model.digest[:12]}",
        )
    keys = session.scalars(select(Sample.key).where(Sample.dataset_id == dataset.id)).all()
    if report.training_keys != keys_digest(keys):
        raise ProblemError(
            409,
            "evidence-of-other-images",
            "The report is of other images",
            f"it speaks of {report.training_images} training images, the dataset of {len(keys)}",
        )
