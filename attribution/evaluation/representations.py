"""The features of training images and queries, extracted once for every score made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import torch

from attribution.attributor import query_extractor
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.evaluation.processes import in_processes
from attribution.features import FeatureExtractor, Features, feature_extractor
from attribution.image_set import ImageSet
from attribution.index.config import IndexConfig
from attribution.index.shards import FeatureShards
from attribution.methods import method_named
from attribution.methods.method import Method

SHARD = 50  # images: what one process takes at a time
DRAWN_AT_ONCE = 10  # Journey TRAK follows 50 steps of each


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, the images it was trained on, and sets of queries.

    Features are kept below ``work``, where the next evaluation finds them.
    """

    model: Path
    data: Path
    queries: dict[str, Path]
    work: Path
    clip: str | None = None
    processes: int = 1


@dataclass(frozen=True)
class Source:
    """Features of one folder under one configuration; a process makes its own extractor of it.

    ``trajectory_of`` names the method that follows the drawing of its queries.
    """

    model: Path
    clip: str | None
    config: IndexConfig
    folder: Path
    queries: bool = False
    trajectory_of: str | None = None

    def directory(self, work: Path) -> Path:
        """Where its shards lie."""
        facts: list[object] = [str(self.model.resolve()), self.clip, self.config.digest()]
        facts += [str(self.folder.resolve()), self.queries, self.trajectory_of]
        return work / sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def shards(self, work: Path) -> FeatureShards:
        """Its shards, written or not."""
        extractor = _extractor(self.model, self.clip, self.config)
        if self.trajectory_of:
            extractor = query_extractor(method_named(self.trajectory_of), extractor)
        return FeatureShards(
            self.directory(work),
            extractor,
            ImageSet(self.folder),
            shard_size=SHARD,
            batch_size=DRAWN_AT_ONCE if self.trajectory_of else SHARD,
            queries=self.queries,
        )

    def extract(self, work: Path, number: int) -> None:
        """Compute one shard."""
        self.shards(work).extract(number)

    def read(self, work: Path) -> Features:
        """All rows of written shards."""
        shards = self.shards(work)
        groups = range(shards.extractor.shape[0])
        rows = [shards.read(shard) for shard in shards.shards]
        gradients = [
            torch.stack([shards.read_group(shard, group) for group in groups], dim=1)
            for shard in shards.shards
        ]
        return Features(
            torch.cat(gradients),
            torch.cat([row.residuals for row in rows]),
            torch.cat([row.probed_residuals for row in rows]),
        )


def training_source(subject: Subject, config: IndexConfig) -> Source:
    """The training images' side.  Features know nothing of λ: one copy serves every rule."""
    return Source(subject.model, subject.clip, _without_damping(config), subject.data)


def query_source(subject: Subject, config: IndexConfig, method: Method, query_set: str) -> Source:
    """The side of one set of queries, as ``method`` wants it."""
    return Source(
        subject.model,
        subject.clip,
        _without_damping(config),
        subject.queries[query_set],
        queries=True,
        trajectory_of=method.name if "trajectory" in method.needs else None,
    )


def extract(
    subject: Subject,
    sources: Iterable[Source],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute the shards that are not there yet, in ``subject.processes`` processes.

    ``on_progress`` is told how many shards are there, of how many.
    """
    jobs, total = {}, 0
    for source in dict.fromkeys(sources):
        shards = source.shards(subject.work)
        total += len(shards.shards)
        for shard in shards.shards:
            if not shards.is_written(shard):
                jobs[source, shard.number] = partial(source.extract, subject.work, shard.number)
    done = total - len(jobs)
    for _ in in_processes(jobs, subject.processes):
        done += 1
        if on_progress:
            on_progress(done, total)


@lru_cache(maxsize=2)
def _extractor(model: Path, clip: str | None, config: IndexConfig) -> FeatureExtractor:
    embedder = ClipEmbedder(clip) if config.output == "clip" and clip else None
    denoiser = Denoiser.load(model) if config.output != "clip" else None
    return feature_extractor(config, denoiser, embedder)


def _without_damping(config: IndexConfig) -> IndexConfig:
    return replace(config, damping=1.0, damping_rule="relative")
