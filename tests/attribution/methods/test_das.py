"""Reference tests 1 and 9: DAS is exact leave-one-out where the model is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev

from attribution.denoisers import Denoiser
from attribution.gradients import GradientProjector
from attribution.index.config import IndexConfig
from attribution.kernel import Kernel
from attribution.methods import METHODS, methods_of
from attribution.methods.das import das_t, region_scores
from attribution.outputs import LinearProbes, region_probes


@pytest.mark.parametrize("D", [1, 3])
def test_das_t_is_leave_one_out_ridge_retraining(D: int, rng: np.random.Generator) -> None:
    """f(x) = J(x)ᵀθ with D outputs: Eq. 16 against n retrainings, to 1e-8."""
    n, p, damping = 11, 5, 0.3
    J, J_gen, y = rng.normal(size=(n, p, D)), rng.normal(size=(p, D)), rng.normal(size=(n, D))

    def ridge(kept: list[int]) -> np.ndarray:
        H = sum(J[i] @ J[i].T for i in kept) + damping * np.eye(p)
        return np.linalg.solve(H, sum(J[i] @ y[i] for i in kept))

    everyone = list(range(n))
    theta = ridge(everyone)
    r = np.einsum("ipd,p->id", J, theta) - y
    retrained = [
        ((J_gen.T @ (theta - ridge([j for j in everyone if j != i]))) ** 2).sum() for i in everyone
    ]
    np.testing.assert_allclose(das_t(J_gen, J, r, damping), retrained, atol=1e-8)


def oracle(gen: np.ndarray, phi: np.ndarray, damping: float) -> np.ndarray:
    """φ_q(gen)ᵀ H⁻¹ φ_q(i) / (1 - h_{i,q}) in float64, the joint kernel inverted outright."""
    n, m, k = phi.shape
    flat = phi.reshape(n * m, k)
    K = flat.T @ flat
    inverse = np.linalg.inv(K + damping * np.trace(K) / k * np.eye(k))
    effects = np.empty((n, m))
    for i in range(n):
        for q in range(m):
            h = phi[i, q] @ inverse @ phi[i, q]
            effects[i, q] = gen[q] @ inverse @ phi[i, q] / (1 - h)
    return effects


def library(gen: np.ndarray, phi: np.ndarray, damping: float) -> np.ndarray:
    n, m, k = phi.shape
    flat = phi.reshape(n * m, k)
    kernel = Kernel.of_rows(lambda: [flat], n * m, k)
    rows = kernel.precondition(flat, damping) / (1 - kernel.leverages(flat, damping))[:, None]
    return np.einsum("nmk,mk->nm", rows.reshape(n, m, k), gen)


@pytest.mark.parametrize("method", ["das", "das-mean", "das-signed"])
def test_family_against_float64_oracle(method: str, rng: np.random.Generator) -> None:
    m = 1 if method == "das-mean" else 4
    phi, gen, r = rng.normal(size=(9, m, 13)), rng.normal(size=(m, 13)), rng.uniform(0.2, 0.4, 9)
    effects = oracle(gen, phi, 0.05)
    expected = effects.sum(axis=1) if method == "das-signed" else ((effects.T * r) ** 2).sum(axis=0)
    np.testing.assert_allclose(METHODS[method].score(library(gen, phi, 0.05), r), expected)


def test_one_output_is_the_exact_form(rng: np.random.Generator) -> None:
    """With m = D = 1 the product's score is Eq. 16 with the residual's own size."""
    phi, gen, r = rng.normal(size=(9, 1, 6)), rng.normal(size=(1, 6)), rng.normal(size=9)
    flat = phi[:, 0]
    absolute = 0.1 * np.trace(flat.T @ flat) / 6
    exact = das_t(gen.T, phi.transpose(0, 2, 1), r[:, None], absolute)
    np.testing.assert_allclose(METHODS["das-mean"].score(library(gen, phi, 0.1), r), exact)


def test_as_many_probes_as_pixels_give_the_exact_jacobian(tiny_ddpm: Path) -> None:
    """Test 9: on a one-channel 8 × 8 output, 64 region probes are the rows of J itself."""
    torch.manual_seed(0)
    denoiser = Denoiser.load(tiny_ddpm)
    network = denoiser.network
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([5, 300, 800])
    projector = GradientProjector(network, parameters="conv_out|mid_block", kind="identity")
    probes = LinearProbes(region_probes(8, 1, 8, 8))
    with projector.recording():
        output = denoiser.predict(x, t, denoiser.condition([None] * 3))
        cotangents = probes.cotangents(output.detach(), output)
        rows = torch.stack([projector.project(output, v) for v in cotangents], dim=1)

    names = list(projector.layers)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    selected = {
        f"{name}.{kind}": parameters[f"{name}.{kind}"]
        for name in names
        for kind in ("weight", "bias")
    }
    for b in range(3):
        jacobian = jacrev(
            lambda chosen, b=b: functional_call(
                network, {**parameters, **chosen}, (x[b : b + 1], t[b])
            ).sample.flatten()
        )(selected)
        exact = torch.cat(
            [
                torch.cat(
                    [jacobian[f"{n}.weight"].flatten(2), jacobian[f"{n}.bias"][..., None]], dim=2
                ).flatten(1)
                for n in names
            ],
            dim=1,
        )
        torch.testing.assert_close(rows[b], exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))

    features = rows.double().numpy()
    effects = library(features[0], features[1:], 0.1)
    np.testing.assert_allclose(effects, oracle(features[0], features[1:], 0.1), rtol=1e-5)
    assert region_scores(effects, np.ones(2)).shape == (2, 64)


def test_each_index_answers_its_own_methods() -> None:
    assert methods_of(IndexConfig()) == ["das", "das-signed"]
    assert methods_of(IndexConfig(grid=1)) == ["das-signed", "das-mean"]
    assert methods_of(IndexConfig(output="square")) == ["d-trak"]
