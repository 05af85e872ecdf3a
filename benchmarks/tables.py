"""What the studies compare: the cases of each table, and the paper's figures beside them.

The paper's are of another data set and a larger model: CIFAR-2 (CIFAR-10 beside Fashion-10), a
U-Net of 35.7M weights, k = 32,768 unless it says otherwise, λ chosen on the very queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.denoisers import Denoiser
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.measure import Bench, Case, Result, scores_of
from attribution.evaluation.report import plot, plot_dampings
from attribution.evaluation.representations import Subject
from attribution.methods import METHODS
from attribution.methods.das import Das
from attribution.methods.method import TrainingRows

DEMO_CLIP = Path(__file__).parent.parent / "demo" / "weights" / "clip"

PAPER: dict[str, Any] = {
    "schedule": "uniform",
    "noise": "per-image",
    "timesteps": 10,
    "projection_dim": 4096,
    "store": "float32",
}
Array = NDArray[np.float64]
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Study:
    """Cases that make one table; ``paper`` are its own figures (LDS in %), by label and set.

    Of the pairs ``compared`` the first's LDS is told as a multiple of the second's.
    """

    title: str
    cases: Callable[[], list[Case]]
    paper: Figures = field(default_factory=dict)
    compared: tuple[tuple[str, str], ...] = ()
    picture: Callable[[dict[str, Any], Path], None] = plot

    def measure(self, subject: Subject, truth: GroundTruth) -> Iterator[Result]:
        """The LDS of every case."""
        return Bench(subject, truth).measure(self.cases())


@dataclass(frozen=True)
class CheckpointStudy(Study):
    """The same cases on earlier states of the model, as if it were the finished one."""

    def measure(self, subject: Subject, truth: GroundTruth) -> Iterator[Result]:
        """The LDS of every case on every state."""
        states = Denoiser.load(subject.model).checkpoints
        for state in [*states, None]:
            model = subject.model if state is None else _as_model(subject, state)
            name = "the finished model" if state is None else state.name
            cases = [replace(case, label=f"{case.label}, {name}") for case in self.cases()]
            yield from Bench(replace(subject, model=model), truth).measure(cases)


@dataclass(frozen=True)
class CandidateStudy(Study):
    """Only the images most like the query have scores; the others have none."""

    part: float = 0.2  # 1,000 of 5,000 in the paper

    def measure(self, subject: Subject, truth: GroundTruth) -> Iterator[Result]:
        """The LDS with all images, and with the candidates that CLIP and pixels name."""
        bench = Bench(subject, truth)
        cases = self.cases()
        bench.extract(cases)
        for query_set in subject.queries:
            likeness = {
                name: scores_of(subject, Case.of(name), query_set)
                for name in ("clip-cosine", "raw-pixel-cosine")
            }
            for case in cases:
                scores = scores_of(subject, case, query_set)
                yield bench.result(case, query_set, scores)
                for name, alike in likeness.items():
                    kept = round(self.part * scores.shape[1])
                    least = np.sort(alike, axis=1)[:, -kept][:, None]
                    some = np.where(alike >= least, scores, 0)
                    label = f"{case.label}, {kept} candidates of {name}"
                    yield bench.result(replace(case, label=label), query_set, some)


class SumOfPowers(Das):
    """Σ_q sign(effect) |effect · r̄|^power: what else the m effects could become."""

    signed = True

    def __init__(self, power: float, sign: bool) -> None:
        self.power, self.sign = power, sign

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """Each region's term."""
        sizes = np.abs(effects * rows.residuals[..., None]) ** self.power
        mean: Array = (np.sign(effects) * sizes if self.sign else sizes).mean(axis=2)
        return mean


def ratios(results: Sequence[Result], compared: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """How many times the one LDS is the other, under each choice of λ, with 95 % intervals."""
    found = {(r.case.label, r.query_set, r.choice): r.estimate for r in results}
    rows = []
    for (label, query_set, choice), estimate in found.items():
        for other in (other for first, other in compared if first == label):
            ratio = estimate.over(found[other, query_set, choice])
            low, high = ratio.interval()
            rows.append(
                {
                    "label": label,
                    "over": other,
                    "query_set": query_set,
                    "damping": choice,
                    "ratio": round(ratio.value, 3),
                    "interval_95": [round(low, 3), round(high, 3)],
                }
            )
    return rows


def _as_model(subject: Subject, checkpoint: Path) -> Path:
    model = subject.work.parent / checkpoint.name
    if not model.is_dir():
        copytree(subject.model, model, ignore=lambda _, names: {n for n in names if "-" in n})
        weights = "unet/diffusion_pytorch_model.safetensors"
        copyfile(checkpoint / weights, model / weights)
    return model


def every_method() -> list[Case]:
    """Tables 1 to 3 at T = 10: all methods in the paper's setting.

    CLIP is the demo's, which has seen emoji and no clothes.
    """
    names = [name for name, method in METHODS.items() if "timesteps apart" not in method.needs]
    return [Case.of(name, **PAPER) for name in names]


def ten_times_the_timesteps() -> list[Case]:
    """The same at T = 100, for what rests on the loss, the mean and the mean square.

    TracIn and GAS would cost four times as much, DAS of four regions twice.
    """
    at_once = ("loss", "mean", "square")
    return [
        Case.of(name, **PAPER | {"timesteps": 100})
        for name, method in METHODS.items()
        if not method.needs & {"timesteps apart", "checkpoints"} and method.outputs[0] in at_once
    ]


def normalisations() -> list[Case]:
    """Table 4, at T = 10."""
    return [
        Case.of(name, f"{name}, {normalisation}", **PAPER, normalisation=normalisation)
        for name in ("dtrak", "das-mean", "das")
        for normalisation in ("none", "timestep", "elementwise")
    ]


def numbers_of_timesteps() -> list[Case]:
    """Table 5, and what low-noise timesteps with shared noise do in its place."""
    names = ("trak", "dtrak", "das-mean", "das")
    cases = [
        Case.of(name, f"{name}, T = {timesteps}", **PAPER | {"timesteps": timesteps})
        for timesteps in (1, 3, 10, 100)
        for name in names
        if (name, timesteps) != ("das", 100)
    ]
    return cases + [
        Case.of(name, f"{name}, low-noise, shared, T = {timesteps}", **low(timesteps))
        for timesteps in (1, 3, 10)
        for name in names
    ]


def low(timesteps: int) -> dict[str, Any]:
    """The setting with little noise, the same for every image."""
    return PAPER | {"schedule": "low-noise", "noise": "shared", "timesteps": timesteps}


def schedules() -> list[Case]:
    """Where the timesteps lie, and whose the noise is, at equal work."""
    return [
        Case.of(
            name,
            f"{name}, {schedule}, {noise} noise",
            **PAPER | {"schedule": schedule, "noise": noise},
        )
        for name in ("das", "das-mean", "dtrak", "trak")
        for schedule in ("uniform", "low-noise")
        for noise in ("per-image", "shared")
    ]


def projections() -> list[Case]:
    """Fig. 2: dimensions and kinds."""
    dimensions = [
        Case.of(name, f"{name}, two-sided, k = {k}", **PAPER | {"projection_dim": k})
        for name in ("das", "das-mean", "dtrak")
        for k in (256, 512, 1024, 2048, 4096)
    ]
    kinds = [
        Case.of(
            "das",
            f"das, {kind}, k = {k}, low-noise, T = 3",
            **low(3) | {"projection": kind, "projection_dim": k},
        )
        for k, kinds_of_k in (
            (256, ("two-sided", "gaussian", "rademacher")),
            (1024, ("two-sided", "gaussian")),  # ten minutes each, where two-sided takes half a one
        )
        for kind in kinds_of_k
    ]
    return dimensions + kinds


def factor_sides(*dimensions: int, **knobs: Any) -> list[Case]:
    """How wide a two-sided projection leaves a layer's factors, before it folds them to k."""
    return [
        Case.of(
            "das",
            f"das, k = {k}, factors of {side}",
            projection_dim=k,
            factor_side=side,
            **knobs,
        )
        for k in dimensions
        for side in (1, 8, 16, 32)
    ]


def layers() -> list[Case]:
    """Table 6: gradients of the up-blocks alone."""
    return [
        Case.of(name, f"{name}, {parameters}", **PAPER, parameters=parameters)
        for name in ("das", "das-mean", "dtrak")
        for parameters in ("all", "up_blocks")
    ]


def probes() -> list[Case]:
    """Regions and cosine modes: at equal k, at equal bytes (m·k) and at equal passes (T·(1+m))."""
    cases = [
        Case.of(
            "das",
            f"{output}, m = {m}, k = {k}, T = {t}: {m * k} numbers, {t * (1 + m)} passes",
            **low(t) | {"output": output, "probes": m, "projection_dim": k},
        )
        for output, m, k, t in (
            ("regions", 4, 4096, 3),
            ("regions", 4, 1024, 3),
            ("regions", 16, 1024, 3),
            ("regions", 16, 256, 3),
            ("regions", 4, 1024, 10),
            ("regions", 16, 1024, 1),
            ("dct", 4, 1024, 3),
            ("dct", 9, 1024, 3),
            ("dct", 16, 1024, 3),
        )
    ]
    mean = [
        Case.of(
            "das-mean",
            f"mean, m = 1, k = {k}, T = {t}: {k} numbers, {2 * t} passes",
            **low(t) | {"projection_dim": k},
        )
        for k, t in ((4096, 3), (4096, 8))
    ]
    return cases + mean


def stores() -> list[Case]:
    """The precision in which an index keeps its rows."""
    return [Case.of("das", f"das, {store}", store=store) for store in STORES]


STORES = ("float32", "float16", "bfloat16", "int8")


def checkpoints() -> list[Case]:
    """Fig. 3."""
    return [Case.of(name, **PAPER) for name in ("das", "das-mean", "dtrak")]


def dampings() -> list[Case]:
    """Fig. 4, and the product's own setting."""
    names = ("das", "das-mean", "dtrak", "trak")
    return [Case.of("das", "das, the product's")] + [
        Case.of(name, f"{name}, T = 10", **PAPER) for name in names
    ]


def sums() -> list[Case]:
    """What the m effects of an image become: an idea beyond the paper."""
    product = Case.of("das")
    powers = ((1.5, False), (1.5, True), (2.0, True), (3.0, True))
    return [
        product,
        Case.of("das-signed"),
        Case.of("das-frobenius"),
        *(
            replace(
                product,
                label=f"Σ {'signed ' if sign else ''}abs(effect)^{power:g}",
                method=SumOfPowers(power, sign),
            )
            for power, sign in powers
        ),
    ]


def the_product(**knobs: Any) -> list[Case]:
    """The default, and the paper's score and D-TRAK in the paper's setting."""
    return [
        Case.of("das", **knobs),
        *(
            Case.of(name, f"{name}, paper's setting", **PAPER | knobs)
            for name in ("das-mean", "dtrak")
        ),
    ]


FASHION_2: dict[str, Study] = {
    "product": Study(
        "The product's default against the paper's score",
        the_product,
        compared=(
            ("das", "das-mean, paper's setting"),
            ("das-mean, paper's setting", "dtrak, paper's setting"),
        ),
    ),
    "table-1": Study(
        "Every method, T = 10",
        every_method,
        {
            "raw-pixel": {"validation": 7.77, "generated": 4.89},
            "raw-pixel-cosine": {"validation": 7.87, "generated": 5.44},
            "clip": {"validation": 6.51, "generated": 3.00},
            "clip-cosine": {"validation": 8.54, "generated": 4.01},
            "gradient": {"validation": 5.14, "generated": 2.80},
            "gradient-cosine": {"validation": 5.08, "generated": 2.78},
            "tracin": {"validation": 6.26, "generated": 3.76},
            "gas": {"validation": 5.78, "generated": 3.34},
            "journey-trak": {"generated": 7.73},
            "relative-influence": {"validation": 11.20, "generated": 5.86},
            "renormalised-influence": {"validation": 10.89, "generated": 5.69},
            "trak": {"validation": 11.42, "generated": 5.78},
            "dtrak": {"validation": 26.79, "generated": 18.82},
            "das-mean": {"validation": 33.90, "generated": 20.88},
        },
    ),
    "table-1-100": Study(
        "The methods of one gradient, T = 100",
        ten_times_the_timesteps,
        {
            "gradient": {"validation": 5.07, "generated": 4.03},
            "gradient-cosine": {"validation": 4.89, "generated": 3.92},
            "journey-trak": {"generated": 12.21},
            "relative-influence": {"validation": 23.43, "generated": 15.91},
            "renormalised-influence": {"validation": 21.46, "generated": 14.65},
            "trak": {"validation": 23.59, "generated": 15.87},
            "dtrak": {"validation": 33.74, "generated": 25.67},
            "das-mean": {"validation": 43.08, "generated": 30.68},
        },
    ),
    "table-4": Study(
        "Normalisation (Eq. 17), T = 10",
        normalisations,
        {
            "dtrak, none": {"validation": 24.78, "generated": 16.20},
            "dtrak, timestep": {"validation": 26.11, "generated": 17.09},
            "das-mean, none": {"validation": 33.04, "generated": 20.01},
            "das-mean, timestep": {"validation": 33.77, "generated": 21.24},
        },
    ),
    "table-5": Study(
        "The number of timesteps",
        numbers_of_timesteps,
        {
            "trak, T = 10": {"validation": 10.66, "generated": 5.14},
            "trak, T = 100": {"validation": 19.50, "generated": 12.05},
            "dtrak, T = 10": {"validation": 24.91, "generated": 16.76},
            "dtrak, T = 100": {"validation": 30.91, "generated": 22.62},
            "das-mean, T = 10": {"validation": 33.04, "generated": 20.01},
            "das-mean, T = 100": {"validation": 42.02, "generated": 29.58},
        },
    ),
    "table-6": Study(
        "Gradients of the up-blocks alone",
        layers,
        {
            "dtrak, all": {"validation": 24.91, "generated": 16.76},
            "das-mean, up_blocks": {"validation": 32.60, "generated": 18.47},
            "das-mean, all": {"validation": 33.77, "generated": 21.24},
        },
    ),
    "table-7": CandidateStudy(
        "Candidates: scores for the most similar images alone",
        lambda: [Case.of("das"), Case.of("das-mean", **PAPER)],
        {
            "das-mean, 400 candidates of clip-cosine": {"validation": 31.53, "generated": 17.73},
        },
    ),
    "figure-2": Study("Projections and their dimension", projections),
    "factors": Study("The width of a layer's factors", lambda: factor_sides(256, 1024, 4096)),
    "figure-3": CheckpointStudy("Earlier states of the model", checkpoints),
    "figure-4": Study("λ", dampings, picture=plot_dampings),
    "schedules": Study("Where the timesteps lie, and whose the noise is", schedules),
    "probes": Study("Probes: m, k and T", probes),
    "stores": Study("The precision of the stored rows", stores),
    "sums": Study("From m effects to one score", sums),
}

FASHION_10: dict[str, Study] = {
    "product": FASHION_2["product"],
    "schedules": FASHION_2["schedules"],
    "table-1": replace(
        FASHION_2["table-1"],
        paper={
            "raw-pixel": {"validation": 2.50, "generated": 2.25},
            "raw-pixel-cosine": {"validation": 2.71, "generated": 2.61},
            "clip": {"validation": 2.39, "generated": 1.11},
            "clip-cosine": {"validation": 3.39, "generated": 1.69},
            "gradient": {"validation": 0.79, "generated": 0.74},
            "gradient-cosine": {"validation": 0.66, "generated": 0.58},
            "tracin": {"validation": 0.98, "generated": 0.96},
            "gas": {"validation": 0.89, "generated": 0.90},
            "journey-trak": {"generated": 3.71},
            "relative-influence": {"validation": 2.76, "generated": 2.42},
            "renormalised-influence": {"validation": 2.73, "generated": 2.10},
            "trak": {"validation": 2.93, "generated": 2.20},
            "dtrak": {"validation": 14.69, "generated": 11.05},
            "das-mean": {"validation": 24.74, "generated": 13.24},
        },
    ),
}


def directions(**knobs: Any) -> list[Case]:
    """How many directions λ leaves to each output."""
    return [
        Case.of("das", f"das, {left} directions", damping=left, damping_rule="directions", **knobs)
        for left in (12, 25, 50, 75, 100, 200)
    ]


EMOJI: dict[str, Study] = {
    "product": FASHION_2["product"],
    "schedules": FASHION_2["schedules"],
    "table-1": Study("Every method, T = 10", every_method),
    "directions": Study("The directions that λ leaves", directions),
    "factors": replace(FASHION_2["factors"], cases=lambda: factor_sides(1024, 4096)),
}

# A LoRA's weights alone, as the paper has it for ArtBench (Table 2); pixels there are the VAE's.
ADAPTER: dict[str, Any] = {"parameters": "lora"}


def every_method_of_a_lora() -> list[Case]:
    """Table 2 at T = 10, but for Journey TRAK: the pictures were drawn with guidance."""
    return [
        replace(case, config=replace(case.config, **ADAPTER))
        for case in every_method()
        if "trajectory" not in case.method.needs
    ]


def schedules_of_a_lora() -> list[Case]:
    """Where the timesteps lie, and whose the noise is."""
    return [replace(case, config=replace(case.config, **ADAPTER)) for case in schedules()]


LATENT: dict[str, Study] = {
    "directions": Study("The directions that λ leaves", lambda: directions(**ADAPTER)),
    "factors": replace(FASHION_2["factors"], cases=lambda: factor_sides(1024, 4096, **ADAPTER)),
    "schedules": replace(FASHION_2["schedules"], cases=schedules_of_a_lora),
    "product": replace(FASHION_2["product"], cases=lambda: the_product(**ADAPTER)),
    "table-2": Study(
        "Every method on a LoRA, T = 10",
        every_method_of_a_lora,
        {
            "raw-pixel": {"validation": 2.44, "generated": 2.60},
            "raw-pixel-cosine": {"validation": 2.58, "generated": 2.71},
            "clip": {"validation": 7.18, "generated": 5.33},
            "clip-cosine": {"validation": 8.62, "generated": 8.66},
            "gradient": {"validation": 7.68, "generated": 4.07},
            "gradient-cosine": {"validation": 7.72, "generated": 4.50},
            "tracin": {"validation": 9.69, "generated": 6.36},
            "gas": {"validation": 9.65, "generated": 6.74},
            "journey-trak": {"generated": 5.96},
            "relative-influence": {"validation": 12.22, "generated": 7.62},
            "renormalised-influence": {"validation": 11.90, "generated": 7.83},
            "trak": {"validation": 12.26, "generated": 7.78},
            "dtrak": {"validation": 27.61, "generated": 24.16},
            "das-mean": {"validation": 37.96, "generated": 30.81},
        },
    ),
}

LDS_STUDIES: dict[str, dict[str, Study]] = {
    "fashion-2": FASHION_2,
    "fashion-10": FASHION_10,
    "emoji": EMOJI,
    "latent": LATENT,
}
