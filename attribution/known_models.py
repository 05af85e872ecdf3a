"""The networks of well-known models, from their published sizes and without their weights.

They live on torch's ``meta`` device, where a tensor has a shape and no memory: enough to count
what an index of such a model would be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import (
    DiTTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from attribution.lora_training import ATTENTION

LATENT_CHANNELS = 4


@dataclass(frozen=True)
class KnownModel:
    """A published model: its ``network``, the sides of what it sees, and a LoRA's rank, if any."""

    title: str
    network: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    lora_rank: int | None = None

    def build(self, device: str = "meta") -> nn.Module:
        """The network, with random weights or, on ``meta``, with none."""
        with torch.device(device):
            network = self.network()
            if self.lora_rank:
                settings = LoraConfig(
                    r=self.lora_rank, lora_alpha=self.lora_rank, target_modules=list(ATTENTION)
                )
                inject_adapter_in_model(settings, network)
        return network.eval()


def cifar_ddpm() -> nn.Module:
    """The DDPM of Ho et al. for CIFAR-10: 35.7M weights."""
    network: nn.Module = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )
    return network


def stable_diffusion_15() -> nn.Module:
    """The U-Net of Stable Diffusion 1.x: 860M weights."""
    network: nn.Module = UNet2DConditionModel(
        sample_size=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=768,
    )
    return network


def stable_diffusion_xl() -> nn.Module:
    """The U-Net of Stable Diffusion XL: 2.57B weights."""
    network: nn.Module = UNet2DConditionModel(
        sample_size=128,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return network


def stable_diffusion_3() -> nn.Module:
    """The transformer of Stable Diffusion 3 medium: 2.03B weights."""
    network: nn.Module = SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=192,
    )
    return network


def dit_xl_2() -> nn.Module:
    """DiT-XL/2 for pictures of 256 × 256: 675M weights, 750M as diffusers has it."""
    network: nn.Module = DiTTransformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        num_layers=28,
        num_attention_heads=16,
        attention_head_dim=72,
        num_embeds_ada_norm=1000,
    )
    return network


KNOWN_MODELS = {
    "cifar-ddpm": KnownModel("the paper's DDPM of CIFAR", cifar_ddpm, (3, 32, 32)),
    "sd15": KnownModel("Stable Diffusion 1.5", stable_diffusion_15, (4, 64, 64)),
    "sd15-lora": KnownModel(
        "Stable Diffusion 1.5 + LoRA, rank 128", stable_diffusion_15, (4, 64, 64), 128
    ),
    "sdxl-lora": KnownModel(
        "Stable Diffusion XL + LoRA, rank 32", stable_diffusion_xl, (4, 128, 128), 32
    ),
    "sd3": KnownModel("Stable Diffusion 3 medium", stable_diffusion_3, (16, 128, 128)),
    "dit-xl-2": KnownModel("DiT-XL/2, 256 × 256", dit_xl_2, (4, 32, 32)),
}
