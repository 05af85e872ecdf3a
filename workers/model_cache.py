"""Models and indexes in memory: loaded on first use, the least recently used one goes first.

Imports torch, so it is itself imported only by a task that runs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import faiss
import torch

from app.database.tables import Dataset, IndexVersion, Model
from app.datasets.registration import refused_keys, samples_digest
from app.jobs.measures import INDEX_IN_MEMORY, INDEX_OPENED, MODEL_LOADED, count
from app.takedowns.service import taken_keys
from attribution.attributor import Attributor
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.features import feature_extractor
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.manifest import IndexFormatError
from attribution.index.search import Index
from workers.process import database, settings

MODELS = 2
INDEXES = 4

torch.set_num_threads(settings().torch_threads)
faiss.omp_set_num_threads(settings().torch_threads)


def _count(event: str) -> None:
    with database().write() as session:
        count(session, event)


@lru_cache(MODELS)
def load_denoiser(directory: str, lora: str | None, digest: str) -> Denoiser:
    """The model, if its weights are still the registered ones."""
    _count(MODEL_LOADED)
    denoiser = Denoiser.load(directory, settings().device, lora)
    if denoiser.digest != digest:
        raise InputError(f"the weights in {directory} have changed since registration")
    return denoiser


@lru_cache(MODELS)
def load_clip(directory: str, digest: str) -> ClipEmbedder:
    """The CLIP, if its weights are still the registered ones."""
    clip = ClipEmbedder(directory, settings().device)
    if clip.digest != digest:
        raise InputError(f"the weights in {directory} have changed since registration")
    return clip


def open_attributor(index_id: str) -> Attributor:
    """A ready index with its model and CLIP; after a takedown it is another one."""
    row, hits = _version(index_id), _open_attributor.cache_info().hits
    while True:
        try:
            found = _open_attributor(
                index_id, row.model_id, row.directory, row.manifest_digest or ""
            )
            if _open_attributor.cache_info().hits > hits:
                _count(INDEX_IN_MEMORY)
            return found
        except (IndexFormatError, OSError):
            # A takedown may have put another directory in its place since we looked.
            before, row = row, _version(index_id)
            if row.directory == before.directory:
                raise


def _version(index_id: str) -> IndexVersion:
    with database().read() as session:
        return session.get_one(IndexVersion, index_id)


@lru_cache(INDEXES)
def _open_attributor(
    index_id: str, model_id: str, directory: str, manifest_digest: str
) -> Attributor:
    with database().read() as session:
        model = session.get_one(Model, model_id)
    _count(INDEX_OPENED)
    index = Index(settings().home / directory)
    if index.manifest.digest != manifest_digest:
        raise InputError(f"the files of {index_id} have changed since it was built")
    return Attributor(
        index,
        load_denoiser(model.directory, model.lora, model.digest),
        load_clip(model.clip_directory, model.clip_digest),
    )


@lru_cache(INDEXES)
def open_builder(index_id: str) -> IndexBuilder:
    """The build of an index, if its folder still holds the registered samples."""
    with database().read() as session:
        row = session.get_one(IndexVersion, index_id)
        model = session.get_one(Model, row.model_id)
        dataset = session.get_one(Dataset, row.dataset_id)
        taken = taken_keys(session, dataset.id)
        left_out = refused_keys(session, dataset.id)
    folder = ImageSet(Path(dataset.path), dataset.fields, skip_refused=dataset.refused_count > 0)
    folder.leave_out(left_out)
    if samples_digest(folder.samples) != dataset.digest:
        raise InputError(f"{dataset.path} has changed since registration")
    folder.leave_out(taken)
    config = IndexConfig.from_dict(row.config)
    extractor = feature_extractor(
        config,
        load_denoiser(model.directory, model.lora, model.digest),
        load_clip(model.clip_directory, model.clip_digest) if config.output == "clip" else None,
    )
    return IndexBuilder(
        settings().home / row.directory, extractor, folder, shard_size=row.shard_size
    )


def clip_of(index_id: str) -> ClipEmbedder:
    """The CLIP that was registered beside the index's model."""
    with database().read() as session:
        model = session.get_one(Model, session.get_one(IndexVersion, index_id).model_id)
    return load_clip(model.clip_directory, model.clip_digest)
