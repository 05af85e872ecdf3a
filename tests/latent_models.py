"""Small untrained models of the classes that people have: Stable Diffusion 1, XL and 3, DiT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
)

LATENT_KINDS = ("sd", "sdxl", "sd3", "dit")
SD_SCHEDULE = DDIMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
    set_alpha_to_one=False, steps_offset=1,
)  # fmt: skip
LATENTS = 8  # 8 × 8 latents of 16 × 16 pictures


def vae(shift: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
        scaling_factor=0.7,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def tower(tokenizer: PreTrainedTokenizerBase, *, projected: bool) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        projection_dim=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def unet(width: int, **fields: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENTS,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=width,
        **fields,
    )


def stable_diffusion(tokenizer: PreTrainedTokenizerBase) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae(), tower(tokenizer, projected=False), tokenizer, unet(8), SD_SCHEDULE,
        None, None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(tokenizer: PreTrainedTokenizerBase) -> StableDiffusionXLPipeline:
    network = unet(
        16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 + 6 * 4,
    )
    schedule = DDIMScheduler.from_config(SD_SCHEDULE.config, prediction_type="v_prediction")
    return StableDiffusionXLPipeline(
        vae(), tower(tokenizer, projected=False), tower(tokenizer, projected=True),
        tokenizer, tokenizer, network, schedule,
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3(tokenizer: PreTrainedTokenizerBase) -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=LATENTS,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), vae(shift=0.1),
        tower(tokenizer, projected=True), tokenizer, tower(tokenizer, projected=True), tokenizer,
        None, None,
    )  # fmt: skip


def dit() -> DiTPipeline:
    transformer = DiTTransformer2DModel(
        sample_size=LATENTS,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_embeds_ada_norm=1000,
    )
    return DiTPipeline(transformer, vae(), DDIMScheduler(clip_sample=False))


CLASSES = {"0": "disc, ada", "1": "ring, bob", "2": "square"}


@pytest.fixture(scope="session")
def latent_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path
) -> Callable[[str], Path]:
    """The directory of a small model of the kind that is asked for, as diffusers saves it."""
    made: dict[str, Path] = {}
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip, model_max_length=8)
    builders: dict[str, Callable[[], Any]] = {
        "sd": lambda: stable_diffusion(tokenizer),
        "sdxl": lambda: stable_diffusion_xl(tokenizer),
        "sd3": lambda: stable_diffusion_3(tokenizer),
        "dit": dit,
    }

    def make(kind: str) -> Path:
        if kind not in made:
            torch.manual_seed(3)
            made[kind] = tmp_path_factory.mktemp(kind)
            builders[kind]().save_pretrained(made[kind])
            if kind == "dit":  # diffusers reads the names of classes, but does not write them
                index = made[kind] / "model_index.json"
                index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": CLASSES}))
        return made[kind]

    return make


@pytest.fixture(scope="session")
def tiny_lora(
    tmp_path_factory: pytest.TempPathFactory, latent_model: Callable[[str], Path]
) -> Path:
    """A LoRA on the small Stable Diffusion, as peft saves it."""
    torch.manual_seed(4)
    network = UNet2DConditionModel.from_pretrained(latent_model("sd") / "unet")
    settings = LoraConfig(
        r=2, lora_alpha=3, target_modules=["to_q", "to_k", "to_v", "to_out.0"],
        init_lora_weights=False,
    )  # fmt: skip
    root = tmp_path_factory.mktemp("lora")
    get_peft_model(network, settings).save_pretrained(root)
    return root
