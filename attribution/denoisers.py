"""One face for the diffusion models of diffusers: prepare an image, add noise, predict, draw.

A model is a directory in diffusers' own layout.  Weights are read from safetensors only.
Checkpoints of its training lie in it as diffusers' training scripts leave them:
``checkpoint-<step>/unet/*.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers import DDPMScheduler
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from attribution.errors import InputError
from attribution.image_folder import pixels
from attribution.index.manifest import file_digest, weights_digest
from attribution.pipelines import PixelTextToImagePipeline
from attribution.sampling import Step, ddim_steps, starting_noise

PIPELINES: dict[str, Any] = {
    "DDPMPipeline": diffusers.DDPMPipeline,
    "PixelTextToImagePipeline": PixelTextToImagePipeline,
}
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
WEIGHTS = "*/*.safetensors"
CHECKPOINT_WEIGHTS = "unet/*.safetensors"


class DenoiserError(InputError):
    """The model directory cannot be used; the message says why."""


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told beside the noisy image; every tensor's first axis is the sample."""

    states: torch.Tensor | None = None
    pooled: torch.Tensor | None = None

    def repeat(self, times: int) -> Condition:
        """The same conditions, ``times`` times over."""
        if self.states is None or self.pooled is None:
            return self
        return Condition(self.states.repeat(times, 1, 1), self.pooled.repeat(times, 1))


@dataclass(frozen=True)
class Drawing:
    """How a picture is drawn with DDIM: the same again gives the same picture."""

    seed: int
    steps: int = 50
    guidance_scale: float = 1.0
    negative_prompt: str = ""


def pipeline_class(directory: Path) -> str:
    """The class that ``model_index.json`` names; an unsupported one is an error."""
    index = directory / "model_index.json"
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (FileNotFoundError, NotADirectoryError):
        raise DenoiserError(f"{directory} has no model_index.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DenoiserError(f"{index} names no pipeline class") from error
    if name not in PIPELINES:
        raise DenoiserError(f"{name} is not supported yet ({', '.join(sorted(PIPELINES))})")
    return str(name)


class Denoiser:
    """ε_θ(x_t, t, c) of a pixel-space model, with the schedule it was trained under.

    ``network`` is the module whose gradients are taken; it is in evaluation mode.  ``checkpoints``
    are the directories of earlier states of its weights, in the order of training;
    ``settings_digest`` names what the directory says beside weights: schedule, sizes, tokenizer;
    ``noise_levels`` are √(1-ᾱ_t), one for each timestep of the training.
    """

    def __init__(
        self,
        pipeline: Any,
        device: torch.device | str = "cpu",
        digest: str = "unsaved",
        checkpoints: Sequence[Path] = (),
        settings_digest: str = "",
    ) -> None:
        self.digest = digest
        self.settings_digest = settings_digest
        self.checkpoints = list(checkpoints)
        self._loaded_checkpoints: dict[Path, dict[str, torch.Tensor]] = {}
        self.device = torch.device(device)
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.network: nn.Module = pipeline.unet.eval()
        _must_be_finite(self.network.state_dict(), "the model's weights")
        config = pipeline.unet.config
        size = config.sample_size
        if size is None:
            raise DenoiserError("the U-Net's configuration has no sample_size")
        height, width = (size, size) if isinstance(size, int) else size
        self.conditional = isinstance(pipeline, PixelTextToImagePipeline)
        if not self.conditional and (config.class_embed_type or config.num_class_embeds):
            raise DenoiserError("models of labelled classes are not supported")
        if config.in_channels not in (1, 3):
            raise DenoiserError(
                f"the model sees {config.in_channels} channels; pictures have 1 or 3"
            )
        self.shape: tuple[int, int, int] = (config.in_channels, height, width)
        scheduler_config = pipeline.scheduler.config
        prediction = scheduler_config.get("prediction_type")
        if prediction not in ("epsilon", "v_prediction"):
            raise DenoiserError(
                f"{type(pipeline.scheduler).__name__} with prediction type {prediction}"
                " is not supported"
            )
        self.prediction_type: str = prediction
        self.schedule: Any = DDPMScheduler.from_config(scheduler_config)
        alphas_cumprod: torch.Tensor = self.schedule.alphas_cumprod
        self.noise_levels: list[float] = (1 - alphas_cumprod.double()).sqrt().tolist()

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Denoiser:
        """Load a pipeline directory in full precision."""
        directory = Path(directory)
        pipeline = PIPELINES[pipeline_class(directory)]
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise DenoiserError(f"device {device} cannot be used: {error}") from error
        for library in (diffusers, transformers):  # their bars would run into the caller's
            library.utils.logging.disable_progress_bar()
        try:
            loaded = pipeline.from_pretrained(
                directory, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise DenoiserError(f"{directory} cannot be loaded: {error}") from error
        for name, p in loaded.unet.named_parameters():
            if p.is_meta:  # diffusers only warns
                raise DenoiserError(f"the weights in {directory} lack {name}")
        found = {
            int(match[1]): path
            for path in directory.glob("checkpoint-*")
            if (match := CHECKPOINT.fullmatch(path.name)) and _weight_files(path)
        }
        return cls(
            loaded,
            device,
            weights_digest(directory, WEIGHTS),
            [found[step] for step in sorted(found)],
            _settings_digest(directory),
        )

    def encode(self, image: Image.Image) -> torch.Tensor:
        """x_0 of an image of any size: ``(C, H, W)`` in [-1, 1]."""
        return pixels(image, self.shape)

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' embeddings; a missing caption is the empty one of guidance training."""
        if not self.conditional:
            return Condition()
        states, pooled = self.pipeline.encode_prompt([caption or "" for caption in captions])
        return Condition(states, pooled)

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε for ``t`` of shape ``(B,)``."""
        return cast(torch.Tensor, self.schedule.add_noise(x_0, noise, t))

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network was trained to predict: ε, or the velocity."""
        if self.prediction_type == "v_prediction":
            return cast(torch.Tensor, self.schedule.get_velocity(x_0, noise, t))
        return noise

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c): ``(B, C, H, W)``, without the variance that some models add."""
        if not self.conditional:
            output = self.network(x_t, t).sample
        else:
            output = self.network(x_t, t, condition.states, class_labels=condition.pooled).sample
        return cast(torch.Tensor, output[:, : self.shape[0]])

    def generate(
        self,
        prompt: str,
        drawing: Drawing,
        *,
        on_step: Callable[[int, Step], None] | None = None,
    ) -> Image.Image:
        """Draw a picture with DDIM; the seed makes it repeatable.

        A model without text draws too; the prompt must then be empty.  ``on_step`` is told how
        many steps are done, and the last one.
        """
        path = self.drawn_together([prompt], [drawing.seed], drawing)
        for done, step in enumerate(path, start=1):
            if on_step:
                on_step(done, step)
        return to_image(step.sample[0])

    def drawn_together(
        self, prompts: Sequence[str], seeds: Sequence[int], drawing: Drawing
    ) -> Iterator[Step]:
        """The steps of several pictures at once, each from its own seed; ``drawing``'s is not used.

        The last step's sample ``(B, C, H, W)`` are the pictures.
        """
        if self.conditional:
            path: Iterator[Step] = self.pipeline.steps(
                list(prompts),
                list(seeds),
                drawing.negative_prompt,
                drawing.steps,
                drawing.guidance_scale,
            )
            return path
        if any(prompts):
            raise DenoiserError("this model draws without text and cannot follow a prompt")
        return ddim_steps(
            lambda x_t, t: self.predict(x_t, t.to(x_t.device), Condition()),
            self.pipeline.scheduler.config,
            starting_noise(seeds, self.shape).to(self.device),
            drawing.steps,
        )

    def chosen_checkpoints(self, count: int) -> list[Path | None]:
        """``count`` states of the weights, spread evenly over training; None is the finished model.

        TracInCP and GAS average over them (paper, Appendix F.3).
        """
        states: list[Path | None] = [*self.checkpoints, None]
        if count > len(states):
            raise DenoiserError(
                f"{count} checkpoints are needed, and the model's directory holds"
                f" {len(self.checkpoints)} beside the finished weights: it should have folders"
                " checkpoint-<step>/unet"
            )
        return [states[-1 - round(i * len(states) / count)] for i in range(count)][::-1]

    @contextmanager
    def weights_of(self, checkpoint: Path | None) -> Iterator[None]:
        """Run the network with the weights of a checkpoint; ``None`` changes nothing."""
        if checkpoint is None:
            yield
            return
        weights = self._checkpoint_weights(checkpoint)
        finished = {name: p.clone() for name, p in self.network.state_dict().items()}
        try:
            try:
                self.network.load_state_dict(weights)
            except RuntimeError as error:  # by then some of them are in
                raise DenoiserError(f"{checkpoint} does not fit the model: {error}") from error
            yield
        finally:
            self.network.load_state_dict(finished)

    def _checkpoint_weights(self, path: Path) -> dict[str, torch.Tensor]:
        if path not in self._loaded_checkpoints:
            weights: dict[str, torch.Tensor] = {}
            try:
                for file in _weight_files(path):
                    weights |= {name: p.float() for name, p in load_file(file).items()}
            except (OSError, SafetensorError) as error:
                raise DenoiserError(f"{path} cannot be loaded: {error}") from error
            _must_be_finite(weights, f"the weights of {path}")
            self._loaded_checkpoints[path] = weights
        return self._loaded_checkpoints[path]

    def digest_with(self, checkpoints: int) -> str:
        """The model's digest, where earlier states of it are used too: with theirs."""
        earlier = [path for path in self.chosen_checkpoints(checkpoints) if path is not None]
        if not earlier:
            return self.digest
        digests = [weights_digest(path, CHECKPOINT_WEIGHTS) for path in earlier]
        return hashlib.sha256("\n".join([self.digest, *digests]).encode()).hexdigest()


def to_image(x_0: torch.Tensor) -> Image.Image:
    """A picture of pixels ``(C, H, W)`` in [-1, 1]: grey for one channel, RGB for three."""
    array = ((x_0.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _settings_digest(directory: Path) -> str:
    """SHA-256 over the pipeline's small files: configurations and vocabularies."""
    digest = hashlib.sha256()
    for file in sorted([*directory.glob("*/*.json"), *directory.glob("*/*.txt")]):
        digest.update(f"{file.relative_to(directory).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def _weight_files(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob(CHECKPOINT_WEIGHTS))


def _must_be_finite(weights: dict[str, torch.Tensor], what: str) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DenoiserError(f"{what} hold NaN or infinity in {name}")
