"""What an index will cost, held against indexes that were built and models that were published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.denoisers import Denoiser
from attribution.features import GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.build import DIRECTIONS, FACTS, KERNELS, IndexBuilder
from attribution.index.config import IndexConfig
from attribution.known_models import KNOWN_MODELS
from attribution.planning import CLIP_DIMENSION, PlanError, measured, plan_for, recommended


@pytest.mark.parametrize(("name", "parameters"), [
    ("cifar-ddpm", 35_746_307),
    ("sd15", 859_520_964),
    ("sd15-lora", 25_509_888),  # the paper: 25.5M
    ("sdxl-lora", 46_448_640),
    ("sd3", 2_028_328_000),
])  # fmt: skip
def test_described_models_have_their_published_sizes(name: str, parameters: int) -> None:
    known = KNOWN_MODELS[name]
    network = known.build()
    assert all(p.is_meta for p in network.parameters())
    chosen = "lora" if known.lora_rank else "all"
    plan = plan_for(network, known.shape, IndexConfig(parameters=chosen), 1000)
    assert plan.parameters == parameters
    assert (plan.forward_passes, plan.backward_passes) == (3, 12)


@pytest.mark.parametrize(("store", "knobs"), [
    ("int8", {}),
    ("float16", {"probes": 1, "timesteps": 2}),
    ("float32", {"average_timesteps": False, "timesteps": 2, "normalisation": "none"}),
])  # fmt: skip
def test_bytes_are_those_of_an_index_that_was_built(
    tiny_ddpm: Path, tiny_folder: Path, tmp_path: Path, store: str, knobs: dict[str, object]
) -> None:
    config = IndexConfig.from_dict({"projection_dim": 200, "store": store} | knobs)
    denoiser, folder = Denoiser.load(tiny_ddpm), ImageSet(tiny_folder)
    plan = plan_for(denoiser.network, denoiser.shape, config, len(folder))
    builder = IndexBuilder(tmp_path, GradientFeatures(denoiser, config), folder, shard_size=12)
    builder.extract(0)
    headers = 2000  # of a safetensors file
    shards = sum(file.stat().st_size for file in (tmp_path / "shards").iterdir())
    rows = shards - 12 * 4  # leverages and solved lengths come later
    assert rows <= plan.shard_bytes + headers
    builder.finalise(None)
    names = (DIRECTIONS, FACTS, KERNELS)
    written = sum((tmp_path / name).stat().st_size for name in names)
    planned = plan.index_bytes - 12 * CLIP_DIMENSION * 4
    if not config.average_timesteps:  # hat matrices, m × m for each group
        planned += 12 * 2 * plan.outputs**2 * 8
    assert planned <= written <= planned + 3 * headers
    assert plan.stored_numbers == 12 // 12 * plan.outputs * plan.dimension * (
        1 if config.average_timesteps else 2
    )


@given(st.integers(700, 10**6), st.integers(64, 10**8), st.sampled_from(["int8", "float16"]))
def test_a_budget_is_kept_and_used(budget: int, parameters: int, store: str) -> None:
    config = recommended(IndexConfig(store=store), budget, parameters)
    assert (config.output, config.probes, config.timesteps) == ("regions", 4, 3)
    item = 1 if store == "int8" else 2
    overhead = 4 * 28 + 4

    def stored(k: int) -> int:
        return 4 * k * item + overhead

    k = config.projection_dim
    assert stored(k) <= budget
    assert k <= parameters
    assert stored(2 * k) > budget or 2 * k > min(parameters, 4096)


def test_what_cannot_be_planned(tiny_ddpm: Path) -> None:
    denoiser = Denoiser.load(tiny_ddpm)
    with pytest.raises(PlanError, match="too few: 372 at least"):
        recommended(IndexConfig(), 300, 10_000)
    for config, images, told in (
        (IndexConfig(output="pixels"), 5, "takes no gradients"),
        (IndexConfig(), 0, "one image at least"),
    ):
        with pytest.raises(PlanError, match=told):
            plan_for(denoiser.network, denoiser.shape, config, images)


def test_time_is_measured_on_the_model_itself(latent_model: Callable[[str], Path]) -> None:
    for kind in ("sd", "dit"):
        denoiser = Denoiser.load(latent_model(kind))
        config = IndexConfig(projection_dim=64, timesteps=1)
        plan = plan_for(denoiser.network, denoiser.shape, config, 50)
        assert plan.seconds is None
        told: list[float] = []
        timed = measured(plan, denoiser, config, 3, told.append)
        assert timed.seconds_per_image is not None
        assert timed.seconds == pytest.approx(50 * timed.seconds_per_image)
        assert told[-1] == 1.0
