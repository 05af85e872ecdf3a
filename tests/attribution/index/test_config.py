"""What a configuration takes, and that equal ones are equal."""

from __future__ import annotations

from typing import Any

import pytest

from attribution.index.config import ConfigError, IndexConfig


@pytest.mark.parametrize(
    "fault",
    [
        {"output": "other"},
        {"output": ["regions"]},
        {"probes": 0},
        {"probes": 5},
        {"probes": "4"},
        {"timesteps": True},
        {"timesteps": 1001},
        {"draws": 0},
        {"average_timesteps": 1},
        {"average_timesteps": False, "normalisation": "elementwise"},
        {"checkpoints": 0},
        {"parameters": 3},
        {"parameters": "x" * 501},
        {"projection": "sparse"},
        {"projection_dim": 65_537},
        {"damping": 0},
        {"damping": -1},
        {"damping": True},
        {"damping": "1"},
        {"damping": float("nan")},
        {"damping": float("inf")},
        {"damping": 10**400},
        {"damping_rule": "best"},
        {"damping_rule": "leverage"},
        {"noise": "none"},
        {"schedule": "quadratic"},
        {"seed": 2**31},
        {"store": "int4"},
        {"colour": 1},
    ],
    ids=str,
)
def test_faults_are_named(fault: dict[str, Any]) -> None:
    name = list(fault)[-1] if "colour" not in fault else "colour"
    with pytest.raises(ConfigError, match=name):
        IndexConfig.from_dict(fault)


def test_equal_configurations_have_equal_digests() -> None:
    """Probes of an output that has none do not count, nor does how a number is written."""
    assert IndexConfig(output="loss", probes=9) == IndexConfig(output="loss")
    assert IndexConfig(probes=1) == IndexConfig(output="dct", probes=1)
    assert IndexConfig(probes=1).output == "mean"
    whole, real = (IndexConfig(damping=d, damping_rule="relative") for d in (1, 1.0))
    assert whole.digest() == real.digest()
    assert IndexConfig().digest() != IndexConfig(seed=1).digest()
    assert IndexConfig.from_dict(IndexConfig(draws=3).to_dict()) == IndexConfig(draws=3)


@pytest.mark.parametrize(
    "pattern",
    ["(", r"(\w+\.?)+!", "a{999999999999999999999}", "\0", "\ud800", "(a*)*b", "a*b*c*d*e"],
    ids=ascii,
)
def test_patterns_that_cannot_be_searched_in_no_time_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        IndexConfig(parameters=pattern)
    assert IndexConfig(parameters=r"attn[12]\.to_[kv]$|(^|\.)up_blocks\..*conv").parameters


def test_what_no_machine_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match="probes × checkpoints"):
        IndexConfig(timesteps=1000, average_timesteps=False, probes=256)
