"""The LDS of methods on one ground truth, under λ as an index has it, and at its best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.lds import Estimate, Yardsticks, lds, yardsticks
from attribution.evaluation.representations import (
    Source,
    Subject,
    extract,
    query_source,
    training_source,
)
from attribution.evaluation.sweep import Coordinates, FactorisedFeatures, scores_without_kernel
from attribution.features import Features
from attribution.image_set import ImageSet
from attribution.index.config import IndexConfig
from attribution.methods import config_for, method_named
from attribution.methods.method import Method

# label-free: what an index of this configuration would use.  oracle: the best of a grid, chosen on
# the very queries that are scored, as the paper's tables do; nobody without the ground truth can
# have it.
DampingChoice = Literal["label-free", "oracle"]
# λ / mean eigenvalue.
ORACLE_DAMPINGS = tuple(10 ** (exponent / 2) for exponent in range(-12, 4))


@dataclass(frozen=True)
class Case:
    """One score to be measured: a method under one configuration, and what a table calls it."""

    label: str
    method: Method
    config: IndexConfig

    @classmethod
    def of(cls, method: str, label: str = "", /, **knobs: Any) -> Case:
        """The case of a method's own configuration with some knobs changed."""
        return cls(label or method, method_named(method), config_for(method, **knobs))


@dataclass(frozen=True)
class Result:
    """The LDS of one case on one set of queries under one choice of λ.

    ``relative_damping`` is in units of the kernel's mean eigenvalue (of the first kernel's, where
    there are several).  ``curve`` are pairs of that and the LDS, where λ was swept.
    """

    case: Case
    query_set: str
    choice: DampingChoice | None
    relative_damping: float | None
    estimate: Estimate
    yardsticks: Yardsticks | None
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def of_limit(self) -> float | None:
        """The LDS as a fraction of what a perfect predictor would reach."""
        if self.yardsticks is None or not self.yardsticks.limit:
            return None
        return self.estimate.value / self.yardsticks.limit

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        low, high = self.estimate.interval()
        return {
            "label": self.case.label,
            "method": self.case.method.name,
            "query_set": self.query_set,
            "damping": self.choice,
            "relative_damping": self.relative_damping,
            "lds": round(self.estimate.value, 5),
            "std_error": round(self.estimate.error, 5),
            "interval_95": [round(low, 5), round(high, 5)],
            "of_limit": None if self.of_limit is None else round(self.of_limit, 4),
            "curve": [[damping, round(value, 5)] for damping, value in self.curve],
            "config": self.case.config.to_dict(),
        }


def scores_of(
    subject: Subject,
    case: Case,
    query_set: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Scores ``(Q, n)`` of one set of queries under the configured λ."""
    sources = (
        training_source(subject, case.config),
        query_source(subject, case.config, case.method, query_set),
    )
    extract(subject, sources, on_progress)
    training, queries = (source.read(subject.work) for source in sources)
    if not case.method.uses_kernel:
        return scores_without_kernel(case.method, training, queries)
    factorised = FactorisedFeatures(training)
    return factorised.scores(
        case.method, factorised.coordinates(queries), factorised.configured_dampings(case.config)
    )


class Bench:
    """A ground truth with the model and the images it speaks of.

    Only subsets that have been trained under every seed count; ``seeds`` restricts those.
    """

    def __init__(self, subject: Subject, truth: GroundTruth, seeds: Sequence[int] | None = None):
        keys = [sample.key for sample in ImageSet(subject.data).samples]
        if keys != truth.train_keys:
            raise InputError(f"the ground truth speaks of other images than {subject.data}")
        places = [truth.seeds.index(seed) for seed in (truth.seeds if seeds is None else seeds)]
        whole = truth.measured[:, places].all(axis=1)
        self.subject = subject
        self.members = truth.members[whole]
        self._losses = truth.losses[whole][:, places]
        self._queries: dict[str, NDArray[np.int64]] = {}
        for name, root in subject.queries.items():
            asked = [f"{name}/{sample.key}" for sample in ImageSet(root).samples]
            found = truth.queries_of(name)
            if asked != [truth.query_keys[i] for i in found]:
                raise InputError(f"the ground truth speaks of other queries than {root}")
            self._queries[name] = found
        self.yardsticks = {name: yardsticks(self.losses(name)) for name in subject.queries}

    def losses(self, query_set: str) -> NDArray[np.float32]:
        """Measured outputs ``(M, S, Q)`` of one set."""
        return self._losses[:, :, self._queries[query_set]]

    def query_sets(self, method: Method) -> list[str]:
        """The sets that a method can score: Journey TRAK only pictures that were drawn."""
        if "trajectory" not in method.needs:
            return list(self.subject.queries)
        return [
            name
            for name, root in self.subject.queries.items()
            if all(sample.seed is not None for sample in ImageSet(root).samples)
        ]

    def extract(
        self, cases: Sequence[Case], on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Compute the features of all cases that are not there yet."""
        extract(
            self.subject, [source for case in cases for source in self._sources(case)], on_progress
        )

    def measure(self, cases: Sequence[Case], *, sweep: bool = True) -> Iterator[Result]:
        """Every case's LDS on every set of queries; features are computed first.

        Cases that share their features follow each other: those are read and factorised once.
        Without ``sweep`` only the configured λ is measured.
        """
        self.extract(cases)
        sources = [training_source(self.subject, case.config) for case in cases]
        together = sorted(range(len(cases)), key=lambda i: sources.index(sources[i]))
        known: tuple[Source, Features, FactorisedFeatures | None] | None = None
        for case in [cases[i] for i in together]:
            source = training_source(self.subject, case.config)
            if known is None or known[0] != source:
                known = (source, source.read(self.subject.work), None)
            training, factorised = known[1], known[2]
            if case.method.uses_kernel and factorised is None:
                factorised = FactorisedFeatures(training)
                known = (source, training, factorised)
            for query_set in self.query_sets(case.method):
                queries = query_source(self.subject, case.config, case.method, query_set).read(
                    self.subject.work
                )
                if factorised is None or not case.method.uses_kernel:
                    scores = scores_without_kernel(case.method, training, queries)
                    yield self.result(case, query_set, scores)
                else:
                    asked = factorised.coordinates(queries)
                    yield from self._swept(case, query_set, factorised, asked, sweep)

    def estimate(self, query_set: str, scores: NDArray[np.floating]) -> Estimate:
        """The LDS of scores ``(Q, n)`` of one set."""
        return lds(scores, self.members, self.losses(query_set))

    def _swept(
        self,
        case: Case,
        query_set: str,
        features: FactorisedFeatures,
        queries: Coordinates,
        sweep: bool,
    ) -> Iterator[Result]:
        unit = features.relative_dampings(1.0)[0]
        configured = features.configured_dampings(case.config)
        scores = features.scores(case.method, queries, configured)
        yield self.result(case, query_set, scores, "label-free", configured[0] / unit)
        if not sweep:
            return
        curve, best, best_scores = [], -np.inf, scores
        for relative in ORACLE_DAMPINGS:
            scores = features.scores(case.method, queries, features.relative_dampings(relative))
            value = lds(scores, self.members, self.losses(query_set), resamples=0).value
            curve.append((relative, value))
            if value > best:
                best, best_scores = value, scores
        relative = max(curve, key=lambda point: point[1])[0]
        yield self.result(case, query_set, best_scores, "oracle", relative, curve)

    def result(
        self,
        case: Case,
        query_set: str,
        scores: NDArray[np.floating],
        choice: DampingChoice | None = None,
        relative: float | None = None,
        curve: list[tuple[float, float]] | None = None,
    ) -> Result:
        """The LDS of scores ``(Q, n)`` that were made elsewhere, as a case's result."""
        return Result(
            case,
            query_set,
            choice,
            relative,
            self.estimate(query_set, scores),
            self.yardsticks[query_set],
            curve or [],
        )

    def _sources(self, case: Case) -> Iterator[Source]:
        yield training_source(self.subject, case.config)
        for query_set in self.query_sets(case.method):
            yield query_source(self.subject, case.config, case.method, query_set)
