"""An index is built in whole steps, once, and what is damaged is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.features import FeatureExtractor, feature_extractor
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.manifest import IndexFormatError, Manifest
from attribution.index.search import Index

CONFIG = IndexConfig(timesteps=2, projection_dim=300)


def builder(
    directory: Path, model: Path, data: Path, config: IndexConfig = CONFIG, shard_size: int = 5
) -> IndexBuilder:
    extractor: FeatureExtractor = feature_extractor(config, Denoiser.load(model), None)
    return IndexBuilder(directory, extractor, ImageSet(data), shard_size=shard_size)


def built(build: IndexBuilder, clip: ClipEmbedder | None = None) -> Manifest:
    for shard in build.shards:
        build.extract(shard.number)
    return build.finalise(clip)


def written(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_an_index_is_written_once_and_its_shards_go(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    build = builder(tmp_path, tiny_ddpm, tiny_folder)
    build.extract(1)
    with pytest.raises(ValueError, match=r"shards \[0, 2\] have not been extracted"):
        build.finalise(None)
    assert build.finished() is None
    manifest = built(build)
    before = written(tmp_path)
    assert set(before) == {*manifest.files, "manifest.json"}

    told: list[float] = []
    build.extract(0, told.append)
    assert build.finalise(None, told.append) == build.finished() == manifest
    assert told == [1, 1]
    assert written(tmp_path) == before


def test_equal_builds_have_equal_files(tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path) -> None:
    first, second = (
        built(builder(tmp_path / name, tiny_ddpm, tiny_folder)) for name in ("first", "second")
    )
    assert first.digest == second.digest


def test_another_build_in_its_place_replaces_it(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    built(builder(tmp_path, tiny_ddpm, tiny_folder))
    other = IndexConfig(timesteps=2, projection_dim=300, seed=1)
    replaced = built(builder(tmp_path, tiny_ddpm, tiny_folder, other))
    assert Index(tmp_path, verify=True).manifest == replaced
    apart = tmp_path / "apart"
    assert built(builder(apart, tiny_ddpm, tiny_folder, other)).digest == replaced.digest


def test_the_manifest_says_what_is_in_it(
    tmp_path: Path, tiny_ddpm: Path, tiny_clip: Path, tiny_folder: Path
) -> None:
    build, clip = builder(tmp_path, tiny_ddpm, tiny_folder), ClipEmbedder(str(tiny_clip))
    manifest = built(build, clip)
    denoiser = Denoiser.load(tiny_ddpm)
    groups, outputs, dimension = build.extractor.shape
    assert (manifest.config, manifest.identity) == (CONFIG, build.rows.identity)
    assert (manifest.model_digest, manifest.clip_digest) == (denoiser.digest, clip.digest)
    assert (manifest.groups, manifest.outputs, manifest.dimension) == (groups, outputs, dimension)
    assert manifest.samples == len(Index(tmp_path)) == 12
    leverages = Index(tmp_path).facts(slice(None)).leverages
    assert manifest.degrees_of_freedom == pytest.approx(leverages.sum(axis=(0, 2)))
    assert set(manifest.files) == {
        "clip.faiss",
        "directions.bin",
        "facts.safetensors",
        "kernels.safetensors",
        "samples.json",
    }


@pytest.mark.parametrize(("store", "error", "smallest"), [
    ("int8", 1e-2, 8e-3),
    ("float16", 1e-3, 1e-6),
    ("bfloat16", 6e-3, 1e-6),
    ("float32", 1e-6, 1e-6),
])  # fmt: skip
def test_rows_are_those_that_were_extracted(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path, store: str, error: float, smallest: float
) -> None:
    """Inner products with unit vectors read the stored features back."""
    config = IndexConfig(output="pixels", store=store)
    build = builder(tmp_path, tiny_ddpm, tiny_folder, config)
    built(build)
    index, denoiser = Index(tmp_path), Denoiser.load(tiny_ddpm)
    found = index.products(torch.eye(64)[:, None, None])[:, :, 0, 0].T
    for row, key in enumerate(index.keys):
        assert key == build.folder.samples[row].key
        x_0 = denoiser.encode(build.folder.image(row)).flatten().numpy()
        np.testing.assert_allclose(found[row], x_0, rtol=error, atol=smallest)


def test_candidates_are_the_most_similar(
    tmp_path: Path, tiny_ddpm: Path, tiny_clip: Path, tiny_folder: Path
) -> None:
    clip = ClipEmbedder(str(tiny_clip))
    build = builder(tmp_path, tiny_ddpm, tiny_folder, IndexConfig(output="pixels"))
    built(build, clip)
    index = Index(tmp_path)
    embeddings = clip.embed_images([build.folder.image(i) for i in range(12)])
    similarities = embeddings @ embeddings[4]
    nearest = index.nearest(embeddings[4], 5)
    assert nearest[0] == 4
    assert list(nearest) == list(np.argsort(-similarities, kind="stable")[:5])
    rows = np.array([7, 0, 4])
    found = index.clip_similarities(embeddings[4], rows)
    np.testing.assert_allclose(found, similarities[rows], rtol=1e-5)
    assert len(index.nearest(embeddings[4], 100)) == 12


@pytest.mark.parametrize(("output", "with_kernel"), [("loss", False), ("pixels", True)])
def test_an_index_without_kernel_says_so(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path, output: str, with_kernel: bool
) -> None:
    """Where none is wanted, and where pixels are compared as they are."""
    config = IndexConfig(output=output, timesteps=2, projection_dim=300)
    build = builder(tmp_path, tiny_ddpm, tiny_folder, config, shard_size=12)
    build.extract(0)
    manifest = build.finalise(None, with_kernel=with_kernel)
    assert manifest.dampings == manifest.degrees_of_freedom == []
    index = Index(tmp_path, verify=True)
    with pytest.raises(IndexFormatError, match="holds no kernel"):
        index.precondition(torch.zeros(1, *build.extractor.shape))
    with pytest.raises(IndexFormatError, match="without CLIP"):
        index.nearest(np.zeros(8, dtype=np.float32), 3)
    with pytest.raises(IndexFormatError, match="without CLIP"):
        index.clip_similarities(np.zeros(8, dtype=np.float32), np.arange(3))


def test_damage_is_noticed(tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path) -> None:
    built(builder(tmp_path, tiny_ddpm, tiny_folder))
    file = tmp_path / "directions.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    Index(tmp_path)  # opening reads nothing: only who asks pays for checksums
    with pytest.raises(IndexFormatError, match=r"directions\.bin is missing or damaged"):
        Index(tmp_path, verify=True)
    file.write_bytes(whole[:100])
    with pytest.raises(IndexFormatError, match=r"directions\.bin is missing or damaged"):
        Index(tmp_path)
    file.unlink()
    with pytest.raises(IndexFormatError, match=r"directions\.bin is missing or damaged"):
        Index(tmp_path)
