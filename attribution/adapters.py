"""LoRA adapters put on a loaded pipeline, from peft's directories or diffusers' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from attribution.model_directory import ADAPTER_CONFIG, DenoiserError, lora_weights

PREFIX = "base_model.model."


def load_lora(pipeline: Any, network: str, lora: Path) -> None:
    """Put a LoRA on the pipeline's ``network`` (and text towers, where diffusers' file has that).

    A directory of peft holds ``adapter_config.json``; any other file is read as the pipeline's own
    class does, where it can.
    """
    weights = lora_weights(lora)
    module: nn.Module = getattr(pipeline, network)
    try:
        if (weights.parent / ADAPTER_CONFIG).is_file():
            _load_peft(module, weights)
        elif hasattr(pipeline, "load_lora_weights"):
            pipeline.load_lora_weights(str(weights.parent), weight_name=weights.name)
        else:
            raise DenoiserError(
                f"{lora}: a {type(pipeline).__name__} takes LoRAs in peft's layout alone"
                f" ({ADAPTER_CONFIG} beside the weights)"
            )
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, DenoiserError):
            raise
        raise DenoiserError(f"{lora} cannot be put on the model: {error}") from error
    if not any(".lora_A." in name for name, _ in module.named_parameters()):
        raise DenoiserError(f"{lora} changes nothing in the model's {network}")
    module.float()


def _load_peft(module: nn.Module, weights: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(weights.parent)
    inject_adapter_in_model(config, module)
    state: dict[str, torch.Tensor] = {
        name.removeprefix(PREFIX): value for name, value in load_file(weights).items()
    }
    result = set_peft_model_state_dict(module, state)
    absent = [name for name in result.missing_keys if "lora_" in name]
    strange = list(result.unexpected_keys)
    if absent or strange:
        raise DenoiserError(
            f"{weights} does not fit the model: {(absent + strange)[0]} is"
            f" {'missing' if absent else 'not in it'}"
        )
