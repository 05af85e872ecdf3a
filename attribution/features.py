"""What represents an image: its averaged projected gradients, its pixels, or its embedding.

All are rows ``(n, G, m, k)``.  m is the number of outputs; G counts what is never averaged: the
checkpoints of TracInCP, the timesteps of das-t, and otherwise 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from PIL import Image

from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.families import Condition
from attribution.gradients import GradientProjector
from attribution.index.config import ConfigError, IndexConfig, Normalisation
from attribution.noise import sample_noise, select_timesteps
from attribution.outputs import output_function

# Rows of one forward pass: few samples are joined by their timesteps, which costs less than a
# pass for each.
ROWS_AT_ONCE = 16
# Mean absolute difference of pixels in [-1, 1]: rounding to 8 bits and JPEG stay well below.
JOURNEY_TOLERANCE = 0.05

Progress = Callable[[float], None]


class FeatureError(InputError):
    """An image has no usable features; the message names it."""


@dataclass(frozen=True)
class Batch:
    """Images with the keys that seed their noise, their captions, and the seed of a drawn one.

    ``names`` is what errors call them, where that is not the key.
    """

    keys: list[str]
    images: list[Image.Image]
    captions: list[str | None]
    seeds: list[int | None]
    names: list[str] | None = None

    def name(self, i: int) -> str:
        """What the user calls image ``i``."""
        return self.names[i] if self.names else self.keys[i]


@dataclass(frozen=True)
class Features:
    """``gradients`` φ ``(n, G, m, k)`` float32; ``residuals`` r̄ ``(n, G)``, the mean length of
    ε_θ - ε, each timestep's divided by the root of their sum of squares (Eq. 17);
    ``probed_residuals`` ``(n, G, m)``: ⟨∂f_q/∂ε_θ, ε_θ - ε⟩.
    """

    gradients: torch.Tensor
    residuals: torch.Tensor
    probed_residuals: torch.Tensor

    @classmethod
    def of_vectors(cls, vectors: torch.Tensor) -> Features:
        """Vectors ``(n, k)`` that are compared as they are."""
        n = len(vectors)
        return cls(vectors[:, None, None].float(), torch.ones(n, 1), torch.zeros(n, 1, 1))


class FeatureExtractor(Protocol):
    """Batches to features.

    ``identity`` is the digest of the weights that are looked through, ``settings`` of what their
    model's configuration files say.
    """

    @property
    def config(self) -> IndexConfig:
        """The configuration."""
        ...

    @property
    def identity(self) -> str:
        """The digest of the weights."""
        ...

    @property
    def settings(self) -> str:
        """The digest of the model's configuration."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(G, m, k)."""
        ...

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """The features of one batch."""
        ...


def feature_extractor(
    config: IndexConfig, denoiser: Denoiser | None, clip: ClipEmbedder | None
) -> FeatureExtractor:
    """The extractor that ``config.output`` asks for."""
    if config.output == "clip":
        if clip is None:
            raise ConfigError("output clip needs a CLIP model")
        return ClipFeatures(clip, config)
    if denoiser is None:
        raise ConfigError(f"output {config.output} needs a diffusion model")
    return (
        PixelFeatures(denoiser, config)
        if config.output == "pixels"
        else GradientFeatures(denoiser, config)
    )


class PixelFeatures:
    """x_0 in [-1, 1], as the model sees it (paper, Appendix F.3: raw pixel)."""

    def __init__(self, denoiser: Denoiser, config: IndexConfig) -> None:
        self.denoiser, self.config = denoiser, config
        self.identity, self.settings = denoiser.digest, denoiser.settings_digest
        channels, height, width = denoiser.shape
        self.shape = (1, 1, channels * height * width)

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """The pixels of one batch."""
        rows = [self.denoiser.encode(image).flatten() for image in batch.images]
        return Features.of_vectors(torch.stack(rows))


class ClipFeatures:
    """open_clip's image embeddings, not normalised (paper, Appendix F.3: CLIP similarity)."""

    def __init__(self, clip: ClipEmbedder, config: IndexConfig) -> None:
        self.clip, self.config = clip, config
        self.identity, self.settings = clip.digest, clip.settings_digest
        self.shape = (1, 1, clip.dimension)

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """The embeddings of one batch."""
        embeddings = self.clip.embed_images(batch.images, normalize=False)
        return Features.of_vectors(torch.from_numpy(embeddings))


class GradientFeatures:
    """φ̄_q(x) and r̄(x) of samples under one configuration.

    Per timestep, draw and checkpoint: one forward pass and m backward passes.  Noise is seeded by
    the sample's key, so a row is the same whatever it is batched with (up to rounding).
    """

    def __init__(self, denoiser: Denoiser, config: IndexConfig) -> None:
        self.denoiser = denoiser
        self.config = config
        self.identity = denoiser.digest_with(config.checkpoints)
        self.settings = denoiser.settings_digest
        self.checkpoints = denoiser.chosen_checkpoints(config.checkpoints)
        self.timesteps = select_timesteps(config.timesteps, config.schedule, denoiser.noise_levels)
        self.output = output_function(config.output, config.probes, denoiser.shape)
        self.projector = GradientProjector(
            denoiser.network,
            parameters=config.parameters,
            kind=config.projection,
            projection_dim=config.projection_dim,
            factor_side=config.factor_side,
            seed=config.seed,
        )
        apart = 1 if config.average_timesteps else len(self.timesteps)
        groups = len(self.checkpoints) * apart
        self.shape = (groups, self.output.count, self.projector.size)

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """Features of one batch, each image noised at every timestep."""
        x_0 = torch.stack([self.denoiser.encode(image) for image in batch.images])
        return self.along(batch, [(t, x_0) for t in self.timesteps], on_progress)

    def along(
        self,
        batch: Batch,
        path: Sequence[tuple[int, torch.Tensor]],
        on_progress: Progress | None = None,
    ) -> Features:
        """Features averaged over ``path``: timesteps, and the x_0 ``(B, C, H, W)`` noised there."""
        condition = self.denoiser.condition(batch.captions)
        parts = []
        for number, checkpoint in enumerate(self.checkpoints):

            def report(fraction: float, before: int = number) -> None:
                if on_progress:
                    on_progress((before + fraction) / len(self.checkpoints))

            with self.denoiser.weights_of(checkpoint):
                parts.append(self._averaged(batch.keys, path, condition, report))
        features = Features(
            torch.cat([part.gradients for part in parts], dim=1),
            torch.cat([part.residuals for part in parts], dim=1),
            torch.cat([part.probed_residuals for part in parts], dim=1),
        )
        finite = torch.isfinite(features.gradients).all(dim=3).all(dim=2).all(dim=1)
        if not bool(finite.all()):
            broken = batch.name(int((~finite).nonzero()[0]))
            raise FeatureError(f"the gradients of {broken} are NaN or infinite")
        return features

    def _averaged(
        self,
        keys: Sequence[str],
        path: Sequence[tuple[int, torch.Tensor]],
        condition: Condition,
        report: Progress,
    ) -> Features:
        draws = self.config.draws
        passes = [(t, draw, x_0) for t, x_0 in path for draw in range(draws)]
        gradients = RunningMean(self.config.normalisation)
        apart: list[torch.Tensor] = []
        lengths, probed = [], []
        pending: list[torch.Tensor] = []
        together = max(1, ROWS_AT_ONCE // len(keys))
        for start in range(0, len(passes), together):
            joined = passes[start : start + together]
            g, length, inside = self.at_once(keys, joined, condition)
            lengths.append(length)
            probed.append(inside)
            for g_draw in g:
                pending.append(g_draw)
                if len(pending) == draws:  # the expectation over noise, at one timestep
                    gradients.add(torch.stack(pending).mean(dim=0) if draws > 1 else pending[0])
                    pending = []
                    if not self.config.average_timesteps:
                        apart.append(gradients.result())
                        gradients = RunningMean(self.config.normalisation)
            report((start + len(joined)) / len(passes))
        shape = (len(path), draws, len(keys))
        r = torch.cat(lengths).reshape(shape).mean(dim=1)  # (T, B)
        inside = torch.cat(probed).reshape(*shape, -1).mean(dim=1).transpose(0, 1)  # (B, T, m)
        if apart:
            return Features(torch.stack(apart, dim=1).cpu(), r.T.cpu(), inside.cpu())
        mean_r = (r / r.norm(dim=0).clamp_min(1e-12)).mean(dim=0)
        return Features(
            gradients.result()[:, None].cpu(),
            mean_r[:, None].cpu(),
            inside.mean(dim=1, keepdim=True).cpu(),
        )

    def at_once(
        self,
        keys: Sequence[str],
        passes: Sequence[tuple[int, int, torch.Tensor]],
        condition: Condition,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """g ``(P, B, m, k)``, ‖r‖ ``(P, B)`` and ⟨∂f_q/∂ε_θ, r⟩ ``(P, B, m)`` of P passes.

        A pass is a timestep, the number of a noise draw and x_0 ``(B, C, H, W)``; all are one
        batch of P·B rows.
        """
        denoiser, times = self.denoiser, len(passes)
        noise = torch.cat(
            [
                sample_noise(keys, t, denoiser.shape, self.config.seed, draw, self.config.noise)
                for t, draw, _ in passes
            ]
        ).to(denoiser.device)
        x_0 = torch.cat([x for _, _, x in passes]).to(denoiser.device)
        t = torch.tensor([t for t, _, _ in passes], device=denoiser.device)
        t = t.repeat_interleave(len(keys))
        target = denoiser.target(x_0, noise, t)
        with self.projector.recording():
            predicted = denoiser.predict(
                denoiser.add_noise(x_0, noise, t), t, condition.repeat(times)
            )
            cotangents = self.output.cotangents(predicted.detach(), target)
            rows = [self.projector.project(predicted, cotangent) for cotangent in cotangents]
        residual = predicted.detach() - target
        probed = (cotangents * residual).flatten(2).sum(dim=2)  # (m, P·B)
        shape = (times, len(keys))
        return (
            torch.stack(rows, dim=1).reshape(*shape, len(rows), -1),
            residual.flatten(1).norm(dim=1).reshape(shape),
            probed.T.reshape(*shape, -1),
        )


class JourneyFeatures:
    """The query's side of Journey TRAK: gradients at the x̂_0 of every step of its own drawing.

    The picture is drawn again from its seed; one that then looks otherwise is refused.
    """

    def __init__(self, gradients: GradientFeatures, drawing: Drawing | None = None) -> None:
        """``drawing`` says all but the seed, which is the batch's."""
        self.gradients, self.drawing = gradients, drawing or Drawing(seed=0)
        self.config, self.shape = gradients.config, gradients.shape
        self.identity, self.settings = gradients.identity, f"{self.drawing}/{gradients.settings}"

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """Features averaged over the steps, x̂_0 noised at the step's own timestep."""
        paths = [self._path(batch, i) for i in range(len(batch.keys))]
        joined = [
            (steps[0][0], torch.cat([x_0 for _, x_0 in steps]))
            for steps in zip(*paths, strict=True)
        ]
        return self.gradients.along(batch, joined, on_progress)

    def _path(self, batch: Batch, i: int) -> list[tuple[int, torch.Tensor]]:
        seed, name = batch.seeds[i], batch.name(i)
        if seed is None:
            raise FeatureError(
                f"{name} has no seed: Journey TRAK follows the drawing of a generated picture"
            )
        path: list[tuple[int, torch.Tensor]] = []
        denoiser = self.gradients.denoiser
        drawn = denoiser.generate(
            batch.captions[i] or "",
            replace(self.drawing, seed=seed),
            on_step=lambda done, step: path.append((step.timestep, step.predicted_x_0.cpu())),
        )
        difference = denoiser.encode(drawn) - denoiser.encode(batch.images[i])
        if float(difference.abs().mean()) > JOURNEY_TOLERANCE:
            raise FeatureError(
                f"{name} is not what the model draws from seed {seed} in {self.drawing.steps} steps"
            )
        return path


class RunningMean:
    """The average over timesteps, under one of the normalisations of Eq. 17.

    ``none`` is the plain mean; ``timestep`` divides each g_t by its own length first (Algorithm 1);
    ``elementwise`` is Eq. 17 to the letter: each element by its root sum of squares over t.
    """

    def __init__(self, normalisation: Normalisation) -> None:
        self.normalisation = normalisation
        self.total: torch.Tensor | None = None
        self.squares: torch.Tensor | None = None
        self.count = 0

    def add(self, g_t: torch.Tensor) -> None:
        """Add one timestep's gradients."""
        if self.normalisation == "timestep":
            g_t = g_t / g_t.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        if self.normalisation == "elementwise":
            self.squares = g_t**2 if self.squares is None else self.squares + g_t**2
        self.total = g_t if self.total is None else self.total + g_t
        self.count += 1

    def result(self) -> torch.Tensor:
        """The average of what was added."""
        if self.total is None:
            raise ValueError("nothing was added")
        mean = self.total / self.count
        return mean if self.squares is None else mean / self.squares.sqrt().clamp_min(1e-12)
