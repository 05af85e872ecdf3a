"""What projected per-sample gradients cost, beside plain passes and beside the usual pipeline.

*Plain passes*: one forward pass and m backward passes of the same batch, with the weights'
gradients, as training has them.  *The usual pipeline*: ``torch.func.vmap(grad)`` for per-sample
gradients, then a Gaussian projection of all p parameters by traker's CPU projector, which draws
its p × k matrix anew for every batch.  That projection is linear in k: it is measured on two blocks
of columns and multiplied; the row says so.  Larger batches share the drawing among more images: the
row also says what would be left if it cost nothing.  What is counted is one timestep of one image.

    pip install -e '.[benchmarks]'; python benchmarks/features.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import Report, alternating, seconds
from torch import nn
from torch.func import functional_call, grad, vmap
from trak.projectors import BasicProjector, ProjectionType

from attribution.denoisers import Denoiser
from attribution.gradients import GradientProjector
from attribution.known_models import KNOWN_MODELS
from demo.paths import MODEL

PLAIN_TARGET, USUAL_TARGET = 1.35, 100.0
COLUMNS = 8  # of traker's matrix at a time: 35.7M × 100, its default, would need 14 GB


class Case:
    """A network with one batch of inputs; ``run`` takes the batch, or one sample of it."""

    def __init__(self, name: str, network: nn.Module, batch: int, extra: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.name, self.network, self.extra = name, network, extra
        self.x = torch.randn(batch, 3, 32, 32)
        self.t = torch.randint(0, 1000, (batch,))
        self.cotangent = torch.randn(batch, 3, 32, 32)

    def run(self) -> torch.Tensor:
        """The output of the batch."""
        output: torch.Tensor = self.network(self.x, self.t, **self.extra).sample
        return output

    def plain(self, outputs: int) -> Callable[[], None]:
        """One forward and m backward passes, as training has them."""
        parameters = list(self.network.parameters())

        def passes() -> None:
            output = self.run()
            for _ in range(outputs):
                torch.autograd.grad(
                    output, parameters, self.cotangent, retain_graph=True, allow_unused=True
                )

        return passes

    def ours(self, outputs: int, k: int) -> Callable[[], None]:
        """One forward and m backward passes with projected per-sample gradients."""
        projector = GradientProjector(self.network, projection_dim=k)

        def passes() -> None:
            with projector.recording():
                output = self.run()
                for _ in range(outputs):
                    projector.project(output, self.cotangent)

        return passes

    def per_sample(self) -> dict[str, torch.Tensor]:
        """``vmap(grad)``: every parameter's gradient for every sample."""
        parameters = {name: p.detach() for name, p in self.network.named_parameters()}

        def scalar(
            weights: dict[str, torch.Tensor],
            x: torch.Tensor,
            t: torch.Tensor,
            v: torch.Tensor,
            extra: dict[str, torch.Tensor],
        ) -> torch.Tensor:
            one = {name: value[None] for name, value in extra.items()}
            output = functional_call(self.network, weights, (x[None], t[None]), one).sample
            product: torch.Tensor = (output[0] * v).sum()
            return product

        gradients: dict[str, torch.Tensor] = vmap(grad(scalar), in_dims=(None, 0, 0, 0, 0))(
            parameters, self.x, self.t, self.cotangent, self.extra
        )
        return gradients


def demo_case(batch: int) -> Case:
    """The demo's text-conditional U-Net."""
    denoiser = Denoiser.load(MODEL)
    condition = denoiser.condition(["octopus, openmoji"] * batch)
    extra = {"encoder_hidden_states": condition["states"], "class_labels": condition["pooled"]}
    return Case("demo U-Net, 1.7M", denoiser.network, batch, extra)


def cifar_case(batch: int) -> Case:
    """The paper's CIFAR DDPM (Appendix F.1) from its configuration, with random weights."""
    network = KNOWN_MODELS["cifar-ddpm"].build("cpu")
    return Case("CIFAR DDPM, 35.7M", network, batch, {})


def against_plain(report: Report, case: Case) -> None:
    """Ratios for one and four outputs, at both projection dimensions."""
    for outputs in (1, 4):
        for k in (4096, 16384):
            ours, plain = alternating(case.ours(outputs, k), case.plain(outputs))
            report.add(
                f"{case.name}, m = {outputs}, k = {k}",
                "seconds / plain passes",
                ours / plain,
                f"≤ {PLAIN_TARGET}",
                ours / plain <= PLAIN_TARGET,
                batch=len(case.x),
                ms_per_image=round(1000 * ours / len(case.x), 2),
                ms_per_image_plain=round(1000 * plain / len(case.x), 2),
            )


def against_usual(report: Report, case: Case, k: int = 4096) -> None:
    """How many times faster than vmap(grad) and traker's projector, per image."""
    batch = len(case.x)
    ours = seconds(case.ours(1, k)) / batch
    vmapped = seconds(case.per_sample, 2) / batch
    gradients = case.per_sample()
    p = sum(g[0].numel() for g in gradients.values())
    flat = torch.cat([g.flatten(1) for g in gradients.values()], dim=1)
    del gradients

    def projection(columns: int) -> float:
        """Seconds per image for k columns, from ``columns`` of them."""
        device = torch.device("cpu")
        projector = BasicProjector(p, columns, 0, ProjectionType.normal, device, block_size=COLUMNS)
        measured = seconds(lambda: projector.project(flat, model_id=0), 2)
        return measured / batch * k / columns

    # One block of columns is drawn once and kept: then only the product is measured.
    drawn, product = projection(2 * COLUMNS), projection(COLUMNS)
    usual = vmapped + drawn
    report.add(
        f"{case.name}, k = {k}",
        "times faster than the usual pipeline",
        usual / ours,
        f"≥ {USUAL_TARGET:g} on the 35.7M model",
        usual / ours >= USUAL_TARGET,
        batch=batch,
        ms_per_image=round(1000 * ours, 2),
        ms_per_image_vmap=round(1000 * vmapped, 2),
        ms_per_image_projection=round(1000 * drawn, 2),
        times_faster_if_drawing_the_matrix_cost_nothing=round((vmapped + product) / ours, 1),
        extrapolated=f"projection measured on {2 * COLUMNS} of {k} columns, one batch of {batch}",
    )


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = Report("features", arguments.out)
    for case in (demo_case(16), cifar_case(8)):
        against_plain(report, case)
        against_usual(report, case)
    report.end()


if __name__ == "__main__":
    main()
