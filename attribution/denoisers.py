"""One face for the diffusion models of diffusers: prepare an image, add noise, predict, draw.

A model is a directory in diffusers' own layout, perhaps with a LoRA in peft's or diffusers' own
layout.  Weights are read from safetensors only.  Checkpoints of its training lie in it as
diffusers' training scripts leave them: ``checkpoint-<step>/unet/*.safetensors``, or, in a LoRA's
directory, ``checkpoint-<step>/adapter_model.safetensors``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from attribution.adapters import PREFIX, load_lora
from attribution.diffusion import Step, starting_noise
from attribution.families import Condition, Family, family_of
from attribution.index.manifest import weights_digest
from attribution.model_directory import (
    ADAPTER_WEIGHTS,
    PIPELINES,
    DenoiserError,
    base_of,
    check_parts,
    is_half_precision,
    model_digest,
    settings_digest,
    single_file,
    unused_parts,
)
from attribution.pipelines import PixelTextToImagePipeline

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# peft's files leave out the adapter's name, which its layers carry: lora_A.default.weight.
ADAPTER_LAYER = re.compile(r"(\.lora_[AB])(?=\.)")
NAMED = re.compile(r"\.lora_[AB]\.(.+)\.weight$")


@dataclass(frozen=True)
class Drawing:
    """How a picture is drawn, by DDIM or (flow matching) Euler: again gives the same picture."""

    seed: int
    steps: int = 50
    guidance_scale: float = 1.0
    negative_prompt: str = ""


class Denoiser:
    """ε_θ(x_t, t, c), or what else the network predicts, with the noise it was trained under.

    ``network`` is the module whose gradients are taken; it is in evaluation mode.  ``shape`` is
    that of x_0, pixels or latents.  ``checkpoints`` are the directories of earlier states of its
    weights, in the order of training; ``settings_digest`` names what the directory says beside
    weights: schedule, sizes, tokenizer; ``noise_levels`` are the shares of noise in x_t, one for
    each timestep of the training.
    """

    def __init__(
        self,
        pipeline: Any,
        device: torch.device | str = "cpu",
        digest: str = "unsaved",
        checkpoints: Sequence[Path] = (),
        settings_digest: str = "",
        adapted: bool = False,
    ) -> None:
        self.digest = digest
        self.settings_digest = settings_digest
        self.checkpoints = list(checkpoints)
        self.adapted = adapted
        self.checkpoint_weights = checkpoint_weights(type(pipeline).__name__, adapted=adapted)
        self._loaded_checkpoints: dict[Path, dict[str, torch.Tensor]] = {}
        self.device = torch.device(device)
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.family: Family = family_of(self.pipeline)
        self.network: nn.Module = self.family.network.eval()
        _must_be_finite(self.network.state_dict(), "the model's weights")
        self.shape = self.family.shape
        self.noise_levels = self.family.process.noise_levels

    @classmethod
    def load(
        cls,
        directory: Path | str,
        device: torch.device | str = "cpu",
        lora: Path | str | None = None,
    ) -> Denoiser:
        """Load a pipeline directory in full precision, and put a LoRA on it.

        A LoRA's own directory can be given alone, where it names a model that is here as its base.
        """
        directory, lora = Path(directory), Path(lora) if lora else None
        if lora is None and (base := base_of(directory)):
            directory, lora = base, directory
        name = check_parts(directory)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise DenoiserError(f"device {device} cannot be used: {error}") from error
        loaded = _load_pipeline(directory, name)
        if lora:
            load_lora(loaded, PIPELINES[name].network, lora)
        weights = checkpoint_weights(name, adapted=lora is not None)
        found = {
            int(match[1]): path
            for path in (lora or directory).glob("checkpoint-*")
            if (match := CHECKPOINT.fullmatch(path.name)) and any(path.glob(weights))
        }
        return cls(
            loaded,
            device,
            model_digest(directory, lora),
            [found[step] for step in sorted(found)],
            settings_digest(directory, lora),
            adapted=lora is not None,
        )

    def encode(self, image: Image.Image) -> torch.Tensor:
        """x_0 of an image of any size: ``(C, H, W)``, pixels in [-1, 1] or scaled latents."""
        return self.family.encode(image)

    def decode(self, x_0: torch.Tensor) -> list[Image.Image]:
        """The pictures of x_0 ``(B, C, H, W)``."""
        return self.family.decode(x_0)

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """What training told the network of images with these captions; None is no caption."""
        return self.family.condition(captions)

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t for timesteps ``t`` of shape ``(B,)``."""
        return self.family.process.add_noise(x_0, noise, t)

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network was trained to predict: ε, or a velocity."""
        return self.family.process.target(x_0, noise, t)

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c): ``(B, C, H, W)``, without the variance that some models add."""
        return self._output(x_t, self.family.process.network_time(t), condition)

    def _output(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.family.predict(x_t, time, condition)[:, : self.shape[0]]

    def generate(
        self,
        prompt: str,
        drawing: Drawing,
        *,
        on_step: Callable[[int, Step], None] | None = None,
    ) -> Image.Image:
        """Draw a picture; the seed makes it repeatable.

        A model without text draws too; the prompt must then be empty.  ``on_step`` is told how
        many steps are done, and the last one.
        """
        path = self.drawn_together([prompt], [drawing.seed], drawing)
        for done, step in enumerate(path, start=1):
            if on_step:
                on_step(done, step)
        return self.decode(step.sample)[0]

    def drawn_together(
        self, prompts: Sequence[str], seeds: Sequence[int], drawing: Drawing
    ) -> Iterator[Step]:
        """The steps of several pictures at once, each from its own seed; ``drawing``'s is not used.

        The last step's sample ``(B, C, H, W)`` is their x_0.  Guidance goes from the negative
        prompt's output to the prompt's, ``guidance_scale`` times as far; 1 is without guidance.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        if self.family.kind.follows == "nothing" and any(prompts):
            raise DenoiserError("this model draws without text and cannot follow a prompt")
        scale = drawing.guidance_scale
        if scale == 1.0 or self.family.kind.follows == "nothing":
            condition = self.condition(prompts)

            def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
                return self._output(x, time, condition)
        else:
            towards, away = self.family.guidance(prompts, drawing.negative_prompt)
            both = away.followed_by(towards)

            def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
                output = self._output(torch.cat([x, x]), torch.cat([time, time]), both)
                negative, positive = output.chunk(2)
                return negative + scale * (positive - negative)

        noise = starting_noise(seeds, self.shape).to(self.device)
        return self.family.process.draw(predict, noise, drawing.steps)

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
        finished = {name: p.clone() for name, p in self._trained_weights().items()}
        absent, strange = finished.keys() - weights.keys(), weights.keys() - finished.keys()
        if absent or strange:
            raise DenoiserError(
                f"{checkpoint} does not fit the model: {min(absent or strange)} is"
                f" {'missing' if absent else 'not in it'}"
            )
        try:
            try:
                self.network.load_state_dict(weights, strict=False)
            except RuntimeError as error:  # by then some of them are in
                raise DenoiserError(f"{checkpoint} does not fit the model: {error}") from error
            yield
        finally:
            self.network.load_state_dict(finished, strict=False)

    def _trained_weights(self) -> dict[str, torch.Tensor]:
        """The weights that the training has changed: the LoRA's where there is one, or all."""
        weights = self.network.state_dict()
        return {
            name: p for name, p in weights.items() if not self.adapted or ADAPTER_LAYER.search(name)
        }

    def _checkpoint_weights(self, path: Path) -> dict[str, torch.Tensor]:
        if path not in self._loaded_checkpoints:
            weights: dict[str, torch.Tensor] = {}
            try:
                for file in sorted(path.glob(self.checkpoint_weights)):
                    weights |= {name: p.float() for name, p in load_file(file).items()}
            except (OSError, SafetensorError) as error:
                raise DenoiserError(f"{path} cannot be loaded: {error}") from error
            _must_be_finite(weights, f"the weights of {path}")
            if self.adapted:
                (adapter, *_) = {m[1] for n in self._trained_weights() if (m := NAMED.search(n))}
                weights = {
                    ADAPTER_LAYER.sub(rf"\1.{adapter}", name.removeprefix(PREFIX)): p
                    for name, p in weights.items()
                }
            self._loaded_checkpoints[path] = weights
        return self._loaded_checkpoints[path]

    def digest_with(self, checkpoints: int) -> str:
        """The model's digest, where earlier states of it are used too: with theirs."""
        earlier = [path for path in self.chosen_checkpoints(checkpoints) if path is not None]
        if not earlier:
            return self.digest
        digests = [weights_digest(path, self.checkpoint_weights) for path in earlier]
        return hashlib.sha256("\n".join([self.digest, *digests]).encode()).hexdigest()


def _load_pipeline(directory: Path, name: str) -> Any:
    """The pipeline in full precision, without what is not computed with."""
    for library in (diffusers, transformers):  # their bars would run into the caller's
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()  # their warnings repeat what prompts say
    network = PIPELINES[name].network
    pipeline: Any = (
        PixelTextToImagePipeline if name == "PixelTextToImagePipeline" else getattr(diffusers, name)
    )
    file = single_file(directory, network)
    if file and not hasattr(pipeline, "from_single_file"):
        raise DenoiserError(f"{directory}: a {name} is not read from a single file ({file.name})")
    try:
        loaded = (
            pipeline.from_single_file(
                str(file), config=str(directory), local_files_only=True, dtype=torch.float32
            )
            if file
            else pipeline.from_pretrained(
                directory,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                variant="fp16" if is_half_precision(directory, network) else None,
                **dict.fromkeys(unused_parts(directory)),
            )
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DenoiserError(f"{directory} cannot be loaded: {error}") from error
    for parameter, p in getattr(loaded, network).named_parameters():
        if p.is_meta:  # diffusers only warns
            raise DenoiserError(f"the weights in {directory} lack {parameter}")
    return loaded


def checkpoint_weights(pipeline: str, *, adapted: bool) -> str:
    """Where a checkpoint's directory holds its weights, as a pattern."""
    return ADAPTER_WEIGHTS if adapted else f"{PIPELINES[pipeline].network}/*.safetensors"


def _must_be_finite(weights: dict[str, torch.Tensor], what: str) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DenoiserError(f"{what} hold NaN or infinity in {name}")
