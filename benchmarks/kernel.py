"""All λ and all leverages from one factorisation, beside one inverse for each λ.

*The reference* is what the paper's code does for each of its 27 values: invert K + λI and multiply
out every row's leverage.  Three values are measured and multiplied by nine; where a matrix of
16,384² would take an hour, the inverse is measured at 8,192 and multiplied by eight (it is cubic).
Both sides start from the features and form the Gram matrix once; both are float64.

    python benchmarks/kernel.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from report import Report, seconds

from attribution.kernel import Kernel

DAMPINGS = 27  # as many as the paper's code tries
MEASURED = 3
TARGET = 20.0
LARGEST_INVERSE = 8192


def features(n: int, k: int) -> torch.Tensor:
    """Rows with a spectrum that falls as gradients' spectra do: ``(n, k)`` float64."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return rows / (1 + torch.arange(k, dtype=torch.float64)).sqrt()


def one_factorisation(phi: torch.Tensor, dampings: torch.Tensor) -> torch.Tensor:
    """Leverages of every row for every λ, ours: ``(L, n)``."""
    kernel = Kernel.of_rows(lambda: [phi], *phi.shape)
    return kernel.leverages(kernel.inside(phi), dampings)


def leverages_by_inverse(phi: torch.Tensor, gram: torch.Tensor, damping: float) -> torch.Tensor:
    """Leverages of every row for one λ, the reference: ``(n,)``."""
    inverse = torch.linalg.inv(gram + damping * torch.eye(len(gram), dtype=torch.float64))
    leverages: torch.Tensor = ((phi @ inverse) * phi).sum(dim=1)
    return leverages


def reference_seconds(phi: torch.Tensor, dampings: torch.Tensor) -> tuple[float, str]:
    """What 27 inverses and their leverages cost, and how that is known."""
    k = phi.shape[1]
    if k <= LARGEST_INVERSE:
        gram = phi.T @ phi
        forming = seconds(lambda: phi.T @ phi, 1)
        each = sum(
            seconds(lambda d=damping: leverages_by_inverse(phi, gram, float(d)), 1)  # type: ignore[misc]
            for damping in dampings[:MEASURED]
        )
        return forming + each * DAMPINGS / MEASURED, f"{MEASURED} of {DAMPINGS} values measured"
    part = phi[:, :LARGEST_INVERSE].contiguous()
    gram = part.T @ part
    factor = k / LARGEST_INVERSE
    forming = seconds(lambda: part.T @ part, 1) * factor**2
    shifted = gram + torch.eye(LARGEST_INVERSE, dtype=torch.float64)
    inverse = seconds(lambda: torch.linalg.inv(shifted), 1) * factor**3
    rows = seconds(lambda: ((part @ shifted) * part).sum(dim=1), 1) * factor**2
    told = f"one value measured at k = {LARGEST_INVERSE}, the inverse multiplied by {factor**3:g}"
    return forming + DAMPINGS * (inverse + rows), told


def main() -> None:
    """Measure more rows than features, and fewer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = Report("kernel", arguments.out)
    for n, k in ((5000, 4096), (5000, 16384)):
        phi = features(n, k)
        mean = float((phi**2).sum()) / k
        dampings = mean * torch.logspace(-4, 2, DAMPINGS, dtype=torch.float64)
        found = one_factorisation(phi, dampings)
        if k <= LARGEST_INVERSE:
            expected = leverages_by_inverse(phi, phi.T @ phi, float(dampings[0]))
            torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-9)
        ours = seconds(lambda p=phi, d=dampings: one_factorisation(p, d), 2)  # type: ignore[misc]
        reference, how = reference_seconds(phi, dampings)
        report.add(
            f"n = {n}, k = {k}",
            f"times faster than {DAMPINGS} inverses",
            reference / ours,
            f"≥ {TARGET:g}",
            reference / ours >= TARGET,
            seconds=round(ours, 2),
            seconds_reference=round(reference, 2),
            extrapolated=how,
        )
    report.end()


if __name__ == "__main__":
    main()
