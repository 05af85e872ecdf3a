"""``headwater scores``: a matrix of scores in a file, without server or database."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from attribution.attributor import query_extractor
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.features import FeatureExtractor, feature_extractor
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.manifest import Manifest, atomic_file
from attribution.index.search import Index
from attribution.index.shards import FeatureShards
from attribution.methods import config_for, method_named
from attribution.methods.method import Method
from attribution.scoring import score_matrix
from cli.errors import BadInputError
from cli.progress import console, stage_progress

SHARD = 16  # images: what an interruption costs at most


@dataclass(frozen=True)
class Task:
    """What is asked for; ``knobs`` are fields of ``IndexConfig``."""

    method: str
    data: Path
    queries: Path
    out: Path
    model: Path | None
    clip: str | None
    clip_candidates: int | None
    broken: Literal["refuse", "skip"]
    device: str
    knobs: dict[str, Any]


def run(task: Task) -> dict[str, NDArray[Any]]:
    """Compute what is not there yet, write the file, and return what is in it.

    Until then everything lies in ``OUT.partial``, where the same command finds it again.
    """
    try:
        return _run(task)
    except InputError as error:
        raise BadInputError(str(error)) from error


def _run(task: Task) -> dict[str, NDArray[Any]]:
    method = method_named(task.method)
    config = config_for(task.method, **task.knobs)
    out = _writable(task.out)
    needs_clip = config.output == "clip" or task.clip_candidates is not None
    if needs_clip and task.clip is None:
        raise BadInputError("--clip: name the open_clip directory that embeds the images")
    if config.output != "clip" and task.model is None:
        raise BadInputError(f"--model: {task.method} needs the diffusion model")
    with _working_folder(out) as partial:
        return _compute(task, method, config, out, partial)


def _compute(
    task: Task, method: Method, config: IndexConfig, out: Path, partial: Path
) -> dict[str, NDArray[Any]]:
    data, queries = (_readable(folder, task.broken) for folder in (task.data, task.queries))
    denoiser = clip = None
    if task.model is not None and config.output != "clip":
        denoiser = Denoiser.load(task.model, task.device)
    if task.clip is not None and (config.output == "clip" or task.clip_candidates is not None):
        clip = ClipEmbedder(task.clip, task.device)
    extractor = feature_extractor(config, denoiser, clip)
    asked = FeatureShards(
        partial / "queries",
        query_extractor(method, extractor),
        queries,
        shard_size=SHARD,
        queries=True,
    )
    # The queries first: they are fewer, and Journey TRAK may refuse one.
    with stage_progress("queries") as advance:
        _extract(asked, advance)
    train = partial / ("train" if method.uses_kernel else "train-without-kernel")
    index = _index(train, extractor, data, method.uses_kernel)
    with stage_progress("scores") as advance:
        scores = score_matrix(index, method, asked, lambda fraction: advance("", fraction))
    if clip is not None and task.clip_candidates is not None:
        scores = _only_candidates(scores, clip, data, queries, task.clip_candidates)
    content = _content(task, scores, data, queries, config, index.manifest)
    with atomic_file(out) as file:
        np.savez(file, allow_pickle=False, **content)
    return content


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """``OUT.partial``, for this run alone; it goes with the last error-free run.

    What refuses the input before anything is computed leaves no folder either.  The lock ends with
    the process, however that ends.
    """
    partial = out.with_name(f"{out.name}.partial")
    try:
        partial.mkdir(exist_ok=True)
        lock = (partial / "lock").open("w")
    except OSError as error:
        raise BadInputError(f"--out: {partial} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInputError(f"--out: another run is writing {partial}") from None
        try:
            yield partial
        except BaseException:
            if [path.name for path in partial.iterdir()] == ["lock"]:
                shutil.rmtree(partial)
            raise
        shutil.rmtree(partial)


def show_top(content: dict[str, NDArray[Any]], top: int) -> Iterator[Table]:
    """For each query a table of its ``top`` training images."""
    keys, scores = content["train_keys"], content["scores"]
    for query, row in zip(content["query_keys"], scores, strict=True):
        table = Table(title=Text(str(query)), title_justify="left")
        table.add_column("#", justify="right")
        table.add_column("training image", overflow="fold")
        table.add_column("score", justify="right")
        for rank, i in enumerate(np.argsort(-row, kind="stable")[:top], start=1):
            table.add_row(str(rank), Text(str(keys[i])), f"{row[i]:.4g}")
        yield table


def _readable(root: Path, broken: str) -> ImageSet:
    folder = ImageSet(root)
    with stage_progress(f"checking {root.name}") as advance:
        faults = folder.drop_broken(lambda fraction: advance("", fraction))
    if faults and broken == "refuse":
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise BadInputError(f"{faults[0]}{more}; --broken skip leaves such images out")
    for fault in faults:
        console.print(Text(f"skipped: {fault}"), soft_wrap=True)
    return folder


def _writable(out: Path) -> Path:
    if out.suffix != ".npz":
        raise BadInputError(f"--out: {out} should end in .npz")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise BadInputError(f"--out: {out} cannot be written: no such folder, or a folder itself")
    return out


def _extract(rows: FeatureShards, advance: Any) -> None:
    for shard in rows.shards:

        def report(fraction: float, start: int = shard.start, count: int = len(shard)) -> None:
            advance("", (start + fraction * count) / len(rows.folder))

        rows.extract(shard.number, report)


def _index(
    directory: Path, extractor: FeatureExtractor, data: ImageSet, with_kernel: bool
) -> Index:
    builder = IndexBuilder(directory, extractor, data, shard_size=SHARD)
    if builder.finished() is None:
        with stage_progress("training images") as advance:
            _extract(builder.rows, advance)
        with stage_progress("kernel") as advance:
            builder.finalise(None, lambda fraction: advance("", fraction), with_kernel=with_kernel)
    return Index(directory)


def _only_candidates(
    scores: NDArray[np.float32],
    clip: ClipEmbedder,
    data: ImageSet,
    queries: ImageSet,
    count: int,
) -> NDArray[np.float32]:
    """Zero for all but the ``count`` nearest to each query by CLIP (paper, Table 7)."""
    train = clip.embed_images(data.image(i) for i in range(len(data)))
    asked = clip.embed_images(queries.image(i) for i in range(len(queries)))
    far = np.argsort(-(asked @ train.T), axis=1, kind="stable")[:, count:]
    kept = scores.copy()
    np.put_along_axis(kept, far, 0.0, axis=1)
    return kept


def _content(
    task: Task,
    scores: NDArray[np.float32],
    data: ImageSet,
    queries: ImageSet,
    config: IndexConfig,
    manifest: Manifest,
) -> dict[str, NDArray[Any]]:
    configuration = {
        "method": task.method,
        **config.to_dict(),
        "clip_candidates": task.clip_candidates,
        "outputs": manifest.outputs,
        "dimension": manifest.dimension,
        "dampings_absolute": manifest.dampings,
        "model_digest": manifest.model_digest,
    }
    return {
        "scores": scores,
        "query_keys": np.array([sample.key for sample in queries.samples]),
        "train_keys": np.array([sample.key for sample in data.samples]),
        "configuration": np.array(json.dumps(configuration, sort_keys=True)),
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
