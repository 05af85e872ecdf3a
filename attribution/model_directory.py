"""What a model's directory holds, read without loading it: class, parts, sizes, digests.

A model is a directory in diffusers' own layout, and perhaps a LoRA beside it.  Nothing here imports
torch: the API looks at models before it registers them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attribution.errors import InputError
from attribution.index.manifest import file_digest, weights_digest

MODEL_INDEX = "model_index.json"
WEIGHTS = "*/*.safetensors"
SINGLE_FILE = "*.safetensors"
CLIP_WEIGHTS = "*.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE = "base_model_name_or_path"
DIFFUSERS_LORA = "pytorch_lora_weights.safetensors"
PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
HALF = ".fp16.safetensors"

Follows = Literal["nothing", "text", "class"]


class DenoiserError(InputError):
    """The model directory cannot be used; the message says why."""


@dataclass(frozen=True)
class PipelineKind:
    """A class of pipelines: which part is the ``network``, what it ``follows``, what it needs.

    ``guidance`` is the scale that diffusers draws with unasked, where it has one; ``text_encoders``
    pair each tower with its tokenizer; ``latent`` models have a VAE.
    """

    network: Literal["unet", "transformer"]
    follows: Follows
    guidance: float = 1.0
    latent: bool = True
    text_encoders: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders without which nothing can be computed."""
        text = tuple(part for pair in self.text_encoders for part in pair)
        return (self.network, *(("vae",) if self.latent else ()), *text, "scheduler")


CLIP_TOWER = ("text_encoder", "tokenizer")
CLIP_TOWER_2 = ("text_encoder_2", "tokenizer_2")
PIPELINES = {
    "DDPMPipeline": PipelineKind("unet", "nothing", latent=False),
    "PixelTextToImagePipeline": PipelineKind(
        "unet", "text", latent=False, text_encoders=(CLIP_TOWER,)
    ),
    "StableDiffusionPipeline": PipelineKind("unet", "text", 7.5, text_encoders=(CLIP_TOWER,)),
    "StableDiffusionXLPipeline": PipelineKind(
        "unet", "text", 5.0, text_encoders=(CLIP_TOWER, CLIP_TOWER_2)
    ),
    "StableDiffusion3Pipeline": PipelineKind(
        "transformer", "text", 7.0, text_encoders=(CLIP_TOWER, CLIP_TOWER_2)
    ),
    "DiTPipeline": PipelineKind("transformer", "class", 4.0),
}


def pipeline_class(directory: Path) -> str:
    """The class that ``model_index.json`` names; an unsupported one is an error."""
    index = directory / MODEL_INDEX
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (FileNotFoundError, NotADirectoryError):
        raise DenoiserError(f"{directory} has no {MODEL_INDEX}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DenoiserError(f"{index} names no pipeline class") from error
    if name not in PIPELINES:
        raise DenoiserError(f"{name} is not supported yet ({', '.join(sorted(PIPELINES))})")
    return str(name)


def check_parts(directory: Path) -> str:
    """The pipeline's class, if its parts are there and their sizes fit each other.

    What a VAE writes must be what the network reads, and the text towers' states as wide as its
    cross-attention.
    """
    name = pipeline_class(directory)
    kind = PIPELINES[name]
    listed = json.loads((directory / MODEL_INDEX).read_text(encoding="utf-8"))
    for part in kind.parts:
        if not any(listed.get(part) or ()):
            raise DenoiserError(f"{directory} has no {part}, which a {name} needs")
        if not (directory / part).is_dir():
            raise DenoiserError(f"{directory} lacks the folder {part}")
    network = _configuration(directory / kind.network)
    if network.get("sample_size") is None:
        raise DenoiserError(f"the configuration of {directory / kind.network} has no sample_size")
    channels = network.get("in_channels")
    if kind.latent:
        latents = _configuration(directory / "vae").get("latent_channels")
        if latents != channels:
            raise DenoiserError(
                f"the VAE of {directory} makes {latents} channels, and its {kind.network} reads"
                f" {channels}"
            )
    elif channels not in (1, 3):
        raise DenoiserError(f"the model sees {channels} channels; pictures have 1 or 3")
    wanted = network.get("cross_attention_dim")
    if kind.text_encoders and isinstance(wanted, int):
        towers = [_configuration(directory / tower) for tower, _ in kind.text_encoders]
        width = sum(tower.get("hidden_size", 0) for tower in towers)
        if width != wanted:
            raise DenoiserError(
                f"the text states of {directory} are {width} wide, and its"
                f" {kind.network}'s cross-attention {wanted}"
            )
    return name


def unused_parts(directory: Path) -> list[str]:
    """What the pipeline lists and nothing is computed with: parts left out, safety checkers."""
    listed = json.loads((directory / MODEL_INDEX).read_text(encoding="utf-8"))
    return [
        name
        for name, entry in listed.items()
        if isinstance(entry, list) and (name in UNUSED or not any(entry))
    ]


def _configuration(part: Path) -> dict[str, Any]:
    try:
        values = json.loads((part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DenoiserError(f"{part} has no readable config.json") from error
    if not isinstance(values, dict):
        raise DenoiserError(f"{part / 'config.json'} is no object")
    return values


def single_file(directory: Path, network: str) -> Path | None:
    """All weights in one safetensors file at the top, where the parts' own folders have none.

    So people share whole checkpoints; configurations and tokenizers lie in the folders as ever.
    """
    files = sorted(directory.glob("*.safetensors"))
    if len(files) != 1 or any((directory / network).glob("*.safetensors")):
        return None
    return files[0]


def model_digest(directory: Path, lora: Path | None = None) -> str:
    """SHA-256 over the names and digests of the weight files, the LoRA's too where there is one.

    A directory without safetensors, or with pickled weights, is an error: unpickling runs code.
    """
    network = PIPELINES[pipeline_class(directory)].network
    pattern = SINGLE_FILE if single_file(directory, network) else WEIGHTS
    digest = safe_weights_digest(directory, pattern)
    if lora is None:
        return digest
    return hashlib.sha256(f"{digest}\n{file_digest(lora_weights(lora))}".encode()).hexdigest()


def safe_weights_digest(directory: Path, pattern: str) -> str:
    """SHA-256 over the weight files that ``pattern`` finds; pickled weights are refused."""
    pickled = [file for file in sorted(directory.rglob("*")) if file.suffix.lower() in PICKLED]
    if pickled:
        raise DenoiserError(f"{pickled[0].relative_to(directory)}: only safetensors are accepted")
    if not any(directory.glob(pattern)):
        raise DenoiserError(f"{directory} has no {pattern}")
    return weights_digest(directory, pattern)


def lora_weights(lora: Path) -> Path:
    """The file of a LoRA: itself, or the one in its directory (peft's layout, or diffusers')."""
    if lora.is_file() and lora.suffix == ".safetensors":
        return lora
    for name in (ADAPTER_WEIGHTS, DIFFUSERS_LORA):
        if (lora / name).is_file():
            return lora / name
    raise DenoiserError(f"{lora} holds no LoRA: neither {ADAPTER_WEIGHTS} nor {DIFFUSERS_LORA}")


def base_of(lora: Path) -> Path | None:
    """The directory of the model that a LoRA in peft's layout names as its base, if it is here.

    A relative path counts from the LoRA's own directory.
    """
    try:
        values = json.loads((lora / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        named = values.get(BASE)
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(named, str) or not (lora / named / MODEL_INDEX).is_file():
        return None
    return (lora / named).resolve()


def settings_digest(directory: Path, lora: Path | None = None) -> str:
    """SHA-256 over the pipeline's small files: configurations and vocabularies."""
    digest = hashlib.sha256()
    for file in sorted([*directory.glob("*/*.json"), *directory.glob("*/*.txt")]):
        digest.update(f"{file.relative_to(directory).as_posix()}\0{file_digest(file)}\n".encode())
    if lora is not None and (lora / ADAPTER_CONFIG).is_file():
        adapter = json.loads((lora / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        adapter.pop(BASE, None)  # where the model lies changes nothing
        digest.update(json.dumps(adapter, sort_keys=True).encode())
    return digest.hexdigest()


def is_half_precision(directory: Path, network: str) -> bool:
    """Whether the network's weights are there as the ``fp16`` variant alone."""
    files = [file.name for file in (directory / network).glob("*.safetensors")]
    return bool(files) and all(HALF in name for name in files)
