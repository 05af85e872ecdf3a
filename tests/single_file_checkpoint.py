"""A Stable Diffusion as one file, under the names that its first authors gave the weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
LAYERS = 1  # of a block, in the small models of the tests


def unet_name(name: str) -> str:
    for theirs, first in (
        ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
        ("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
        ("mid_block.resnets.1", "middle_block.2"),
    ):  # fmt: skip
        if name.startswith(f"{theirs}."):
            return with_resnets(first + name.removeprefix(theirs))
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)(\.conv)?\.(.+)", name)
    assert match, name
    way, block, kind, number, _, rest = match.groups()
    start = int(block) * (LAYERS + 1)
    if way == "down":
        place = start + 1 + (LAYERS if kind == "downsamplers" else int(number))
        inside = {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind]
        return with_resnets(f"input_blocks.{place}.{inside}.{rest}")
    place = start + (LAYERS if kind == "upsamplers" else int(number))
    # Behind the attention, in the one up-block of the tests that has both.
    inside = {"resnets": "0", "attentions": "1", "upsamplers": "2.conv"}[kind]
    return with_resnets(f"output_blocks.{place}.{inside}.{rest}")


def with_resnets(name: str) -> str:
    place = re.match(r"((?:in|out)put_blocks\.\d+\.0|middle_block\.[02])\.(\w+)\.(.+)", name)
    return f"{place[1]}.{RESNET.get(place[2], place[2])}.{place[3]}" if place else name


def vae_name(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    for theirs, first in (("resnets.", "block."), ("upsamplers.0", "upsample")):
        pattern = rf"up_blocks\.(\d)\.{re.escape(theirs)}"
        name = re.sub(pattern, lambda m, f=first: f"up.{1 - int(m[1])}.{f}", name)
    for theirs, first in (
        ("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
        ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
        ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"),
    ):  # fmt: skip
        name = name.replace(theirs, first)
    return name


def write_single_file(model: Path, out: Path) -> None:
    """The model's directory without its weights, and these in one file beside the folders."""
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("*.safetensors"))
    weights: dict[str, torch.Tensor] = {}
    for name, p in pipeline.unet.state_dict().items():
        weights[f"model.diffusion_model.{unet_name(name)}"] = p
    for name, p in pipeline.vae.state_dict().items():
        square = "attentions" in name and name.endswith("weight") and p.ndim == 2
        weights[f"first_stage_model.{vae_name(name)}"] = p[:, :, None, None] if square else p
    for name, p in pipeline.text_encoder.state_dict().items():
        bare = name.removeprefix("text_model.")
        weights[f"cond_stage_model.transformer.text_model.{bare}"] = p
    save_file({name: p.contiguous() for name, p in weights.items()}, out / "model.safetensors")
