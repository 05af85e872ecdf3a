"""Features on disk: of any size, only of this run, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from attribution.denoisers import Denoiser
from attribution.features import FeatureError, Features, GradientFeatures, PixelFeatures
from attribution.image_set import ImageSet
from attribution.index.config import IndexConfig
from attribution.index.manifest import IndexFormatError
from attribution.index.precision import widened
from attribution.index.shards import FeatureShards, ShardRows, plan_shards


@pytest.mark.parametrize(("store", "error"), [
    (torch.int8, 1.2e-2),
    (torch.float16, 1e-3),
    (torch.bfloat16, 8e-3),
    (torch.float32, 1e-6),
])  # fmt: skip
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_gradients_of_any_size_survive(store: torch.dtype, error: float, size: float) -> None:
    torch.manual_seed(0)
    true = size * torch.randn(3, 2, 4, 500)
    rows = ShardRows.of_features(Features(true, torch.ones(3, 2), torch.ones(3, 2, 4)), store)
    kept = widened(rows.directions) * rows.scales[..., None]
    assert rows.directions.dtype == store
    assert ((kept - true).norm(dim=-1) < error * true.norm(dim=-1)).all()
    torch.testing.assert_close(kept.norm(dim=-1), true.norm(dim=-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(rows.lengths, true.norm(dim=-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("store", [torch.int8, torch.float16])
def test_a_sample_without_gradient_stays_zero(store: torch.dtype) -> None:
    features = Features(torch.zeros(1, 1, 1, 8), torch.zeros(1, 1), torch.zeros(1, 1, 1))
    rows = ShardRows.of_features(features, store)
    assert not rows.directions.any()
    assert torch.isfinite(rows.scales).all()


@pytest.fixture
def shards(tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path) -> FeatureShards:
    extractor = PixelFeatures(
        Denoiser.load(tiny_ddpm), IndexConfig(output="pixels", store="float16")
    )
    return FeatureShards(tmp_path, extractor, ImageSet(tiny_folder), shard_size=5)


def test_a_shard_is_read_as_it_was_computed(shards: FeatureShards) -> None:
    shards.extract(1)
    pixels = shards.extractor.denoiser.encode(shards.folder.image(6)).flatten()  # type: ignore[attr-defined]
    found = shards.read_group(shards.shards[1], 0)
    assert found.shape == (5, 1, 64)
    torch.testing.assert_close(found[1, 0], pixels, rtol=1e-3, atol=1e-3)


def test_progress_is_that_of_the_shard(tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path) -> None:
    config = IndexConfig(timesteps=2, projection_dim=300)
    extractor = GradientFeatures(Denoiser.load(tiny_ddpm), config)
    folder = ImageSet(tiny_folder)
    shards = FeatureShards(tmp_path, extractor, folder, shard_size=5, batch_size=2)
    told: list[float] = []
    shards.extract(1, told.append)
    assert told == pytest.approx([0.4, 0.8, 1, 1])


def test_what_is_written_is_not_done_again(shards: FeatureShards) -> None:
    shards.extract(0)
    file = shards.directory / shards.shards[0].file_name
    written = file.stat().st_mtime_ns
    told: list[float] = []
    shards.extract(0, told.append)
    assert (file.stat().st_mtime_ns, told) == (written, [1.0])


def test_half_a_file_and_another_runs_file_are_done_again(
    shards: FeatureShards, tiny_ddpm: Path
) -> None:
    file = shards.directory / shards.shards[0].file_name
    shards.extract(0)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert not shards.is_written(shards.shards[0])
    shards.extract(0)
    assert file.read_bytes() == whole

    config = IndexConfig(output="pixels", seed=1)
    extractor = PixelFeatures(Denoiser.load(tiny_ddpm), config)
    others = FeatureShards(shards.directory, extractor, shards.folder, shard_size=5)
    assert not others.is_written(others.shards[0])
    others.extract(0)
    assert others.is_written(others.shards[0])
    assert not shards.is_written(shards.shards[0])


def test_another_model_is_another_run(
    tmp_path: Path, trained_ddpm: Path, tiny_folder: Path
) -> None:
    """The finished weights are equal; a checkpoint's are not."""
    model = tmp_path / "model"
    shutil.copytree(trained_ddpm, model)
    config = IndexConfig(output="loss", timesteps=1, projection_dim=300, checkpoints=2)
    folder = ImageSet(tiny_folder)

    def identity() -> str:
        return FeatureShards(
            tmp_path, GradientFeatures(Denoiser.load(model), config), folder
        ).identity

    before = identity()
    weights = model / "checkpoint-20" / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    save_file({name: 2 * p for name, p in load_file(weights).items()}, weights)
    assert identity() != before
    weights.write_bytes(kept)
    assert identity() == before


def test_another_schedule_is_another_run(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    """The weights are equal; what the scheduler's configuration says is not."""
    model = tmp_path / "model"
    shutil.copytree(tiny_ddpm, model)
    config = IndexConfig(timesteps=1, projection_dim=300)

    def identity() -> str:
        extractor = GradientFeatures(Denoiser.load(model), config)
        return FeatureShards(tmp_path, extractor, ImageSet(tiny_folder)).identity

    before = identity()
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"linear"', '"squaredcos_cap_v2"'))
    assert identity() != before


def test_shards_of_another_run_are_not_read(shards: FeatureShards, tiny_ddpm: Path) -> None:
    shards.extract(0)
    config = IndexConfig(output="pixels", seed=1)
    extractor = PixelFeatures(Denoiser.load(tiny_ddpm), config)
    others = FeatureShards(shards.directory, extractor, shards.folder, shard_size=5)
    with pytest.raises(IndexFormatError, match="is of another run"):
        others.read(others.shards[0])


def test_gradients_too_large_to_square_are_refused() -> None:
    features = Features(torch.full((1, 1, 1, 8), 1e20), torch.zeros(1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(FeatureError, match="too large"):
        ShardRows.of_features(features, torch.float16)


def test_another_picture_under_the_same_name_is_another_run(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    """Where the images were checked first, as ``headwater scores`` does."""
    data = tmp_path / "data"
    shutil.copytree(tiny_folder, data)
    extractor = PixelFeatures(Denoiser.load(tiny_ddpm), IndexConfig(output="pixels"))

    def identity() -> str:
        folder = ImageSet(data)
        assert folder.drop_broken() == []
        return FeatureShards(tmp_path, extractor, folder).identity

    before = identity()
    assert identity() == before
    (data / "ada" / "disc.png").write_bytes((data / "bob" / "disc.png").read_bytes())
    assert identity() != before


def test_plans() -> None:
    assert [(s.start, s.stop) for s in plan_shards(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    with pytest.raises(ValueError, match="cannot cut"):
        plan_shards(0, 3)
