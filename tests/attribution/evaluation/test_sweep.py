"""The sweep over λ is a shortcut through eigenvectors: its scores are those of an index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attribution.denoisers import Denoiser
from attribution.evaluation.representations import Subject, extract, query_source, training_source
from attribution.evaluation.sweep import FactorisedFeatures, scores_without_kernel
from attribution.features import GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.search import Index
from attribution.index.shards import FeatureShards
from attribution.methods import METHODS, config_for
from attribution.scoring import score_matrix

WITH_KERNEL = (
    "das",
    "das-signed",
    "das-frobenius",
    "das-t",
    "dtrak",
    "trak",
    "relative-influence",
)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("tracin", "relative"),  # has no λ
        *((name, rule) for name in WITH_KERNEL for rule in ("relative", "directions", "absolute")),
    ],
)
def test_scores_are_those_of_an_index(
    name: str, rule: str, tmp_path: Path, trained_ddpm: Path, tiny_folder: Path
) -> None:
    method = METHODS[name]
    config = config_for(
        name, timesteps=2, projection_dim=120, store="float32", damping=0.3, damping_rule=rule
    )
    subject = Subject(trained_ddpm, tiny_folder, {"ada": tiny_folder / "ada"}, tmp_path / "work")
    sources = training_source(subject, config), query_source(subject, config, method, "ada")
    extract(subject, sources)
    training, queries = (source.read(subject.work) for source in sources)
    if method.uses_kernel:
        factorised = FactorisedFeatures(training)
        dampings = factorised.configured_dampings(config)
        asked_for = factorised.coordinates(queries)
        swept = factorised.scores(method, asked_for, dampings)
        parts = factorised.parts(method, asked_for, dampings)
        np.testing.assert_allclose(parts.sum(axis=2), swept, rtol=1e-4, atol=1e-9)
    else:
        swept = scores_without_kernel(method, training, queries)

    extractor = GradientFeatures(Denoiser.load(trained_ddpm), config)
    build = IndexBuilder(tmp_path / "index", extractor, ImageSet(tiny_folder))
    build.extract(0)
    build.finalise(None, with_kernel=method.uses_kernel)
    asked = FeatureShards(
        tmp_path / "asked", extractor, ImageSet(tiny_folder / "ada"), queries=True
    )
    asked.extract(0)
    expected = score_matrix(Index(tmp_path / "index"), method, asked)
    assert swept.shape == (6, 12)
    np.testing.assert_allclose(swept, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_features_serve_every_damping(tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path) -> None:
    config = config_for("das", timesteps=1, projection_dim=50)
    subject = Subject(tiny_ddpm, tiny_folder, {}, tmp_path)
    assert training_source(subject, config) == training_source(
        subject, replace(config, damping=3.0, damping_rule="absolute")
    )


def test_extracted_features_are_not_extracted_again(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    config = config_for("das", timesteps=1, projection_dim=50)
    subject = Subject(tiny_ddpm, tiny_folder, {}, tmp_path)
    source = training_source(subject, config)
    told: list[tuple[int, int]] = []
    extract(subject, [source, source], lambda *now: told.append(now))
    assert told == [(1, 1)]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert files
    extract(subject, [source])
    assert {path: path.stat().st_mtime_ns for path in files} == files
