"""Reference tests 1 and 9: DAS is exact leave-one-out where the model is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev

from attribution.denoisers import Denoiser
from attribution.families import Condition
from attribution.features import Batch, GradientFeatures
from attribution.gradients import GradientProjector
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from attribution.methods import METHODS, MethodError, config_for, methods_of
from attribution.methods.das import das_t
from attribution.noise import sample_noise
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
        parts = []
        for name in names:
            weight, bias = jacobian[f"{name}.weight"], jacobian[f"{name}.bias"]
            if weight.ndim > 2:  # a matrix beside its bias, row by row; a normalisation is a vector
                joined = torch.cat([weight.flatten(2), bias[..., None]], dim=2).flatten(1)
            else:
                joined = torch.cat([weight, bias], dim=1)
            parts.append(joined)
        exact = torch.cat(parts, dim=1)
        torch.testing.assert_close(rows[b], exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_das_t_from_probes_is_the_exact_jacobian_form(
    tmp_path: Path, tiny_ddpm: Path, tiny_folder: Path
) -> None:
    """With every pixel a probe, an index with timesteps apart scores by Eq. 16 at each of them."""
    folder = ImageSet(tiny_folder)
    config = config_for(
        "das-t",
        probes=64,
        timesteps=2,
        projection="identity",
        parameters="conv_out",
        store="float32",
        damping=0.05,
    )
    extractor = GradientFeatures(Denoiser.load(tiny_ddpm), config)
    builder = IndexBuilder(tmp_path, extractor, folder)
    builder.extract(0)
    builder.finalise(None)
    index, method = Index(tmp_path), METHODS["das-t"]
    keys = [sample.key for sample in folder.samples]
    images = [folder.image(i) for i in range(len(folder))]
    asking = Batch(["query"], [folder.image(3)], [None], [None])
    gen = extractor.extract(asking).gradients
    facts = index.facts(slice(None))
    products = index.products(index.precondition(gen), all_pairs=True)
    found = method.score(method.effects(products, facts, gen.norm(dim=-1).numpy()), facts)[0]

    train = extractor.extract(Batch(keys, images, [None] * len(keys), [None] * len(keys)))
    denoiser, per_timestep = extractor.denoiser, []
    x_0 = torch.stack([denoiser.encode(image) for image in images])
    for group, timestep in enumerate(extractor.timesteps):
        noise = sample_noise(keys, timestep, denoiser.shape, config.seed)
        t = torch.full((len(keys),), timestep)
        with torch.no_grad():
            predicted = denoiser.predict(denoiser.add_noise(x_0, noise, t), t, Condition())
        J = train.gradients[:, group].double().numpy().transpose(0, 2, 1)
        r = (predicted - noise).flatten(1).double().numpy()
        damping = index.manifest.dampings[group]
        per_timestep.append(das_t(gen[0, group].double().numpy().T, J, r, damping))
    np.testing.assert_allclose(found, np.mean(per_timestep, axis=0), rtol=1e-4)


def test_each_index_answers_its_own_methods() -> None:
    assert methods_of(IndexConfig()) == ["das", "das-signed", "das-frobenius"]
    assert methods_of(IndexConfig(probes=1)) == ["das-signed", "das-mean", "dtrak-mean"]
    assert methods_of(IndexConfig(output="square")) == ["dtrak"]
    assert methods_of(config_for("das-t")) == ["das-t"]
    loss = ["trak", "relative-influence", "renormalised-influence", "journey-trak"]
    assert set(loss) < set(methods_of(config_for("trak")))
    assert "tracin" not in methods_of(config_for("trak"))
    assert {"tracin", "gas"} < set(methods_of(config_for("gas")))


def test_only_the_products_own_scores_depart_from_the_papers_setting() -> None:
    for name in METHODS:
        config = config_for(name)
        own = name in ("das", "das-signed", "das-frobenius")
        setting = (config.timesteps, config.schedule, config.noise)
        assert setting == ((3, "low-noise", "shared") if own else (10, "uniform", "per-image")), (
            name
        )
    assert config_for("trak", schedule="low-noise", timesteps=3).schedule == "low-noise"
    assert config_for("das") == IndexConfig()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_served_by_its_own_configuration(method: str) -> None:
    assert method in methods_of(config_for(method))
    with pytest.raises(MethodError):
        config_for(method, output="l1" if METHODS[method].outputs != ("l1",) else "loss")
