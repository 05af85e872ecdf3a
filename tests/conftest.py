"""Small real things that many tests share: a folder of pictures, a CLIP, diffusion models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from hypothesis import settings
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None)  # however busy it is
settings.load_profile("any machine")

pytest_plugins = ("latent_models", "service_lanes", "signing_identity", "webhook_receiver")

THINGS = ("disc", "square", "stripe", "cross", "ring", "wedge")
OWNERS = (("ada", "Ada Example", "CC-BY-4.0"), ("bob", "Bob Example", "CC-BY-SA-4.0"))


def draw_thing(thing: str, owner: str, size: int = 16) -> Image.Image:
    """Ada fills her shapes with red, Bob outlines his in blue."""
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    fill, line = ("crimson", None) if owner == "ada" else (None, "navy")
    low, high = 2, size - 3
    shapes = {
        "disc": lambda: pen.ellipse((low, low, high, high), fill, line),
        "square": lambda: pen.rectangle((low, low, high, high), fill, line),
        "stripe": lambda: pen.rectangle((low, size // 3, high, 2 * size // 3), fill, line),
        "cross": lambda: pen.polygon(
            [(low, low), (high, high), (low, high), (high, low)], fill, line
        ),
        "ring": lambda: pen.ellipse((size // 4, low, 3 * size // 4, high), fill, line),
        "wedge": lambda: pen.polygon([(low, high), (size // 2, low), (high, high)], fill, line),
    }
    shapes[thing]()
    return image


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve 16 × 16 pictures by two owners, with metadata."""
    root = tmp_path_factory.mktemp("folder")
    rows = []
    for owner, creator, licence in OWNERS:
        (root / owner).mkdir()
        for thing in THINGS:
            name = f"{owner}/{thing}.png"
            draw_thing(thing, owner).save(root / name)
            rows.append(
                {
                    "file_name": name,
                    "text": f"{thing}, {owner}",
                    "creator": creator,
                    "licence": licence,
                    "source": f"https://example.org/{name}",
                }
            )
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP of some thousand weights in open_clip's own directory layout."""
    from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg

    from demo.train_clip import PREPROCESS, train_tokenizer

    root = tmp_path_factory.mktemp("clip")
    tokenizer = train_tokenizer([f"{t}, {o[0]}" for t in THINGS for o in OWNERS], root)
    vision = {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16}
    text = {
        "context_length": 8,
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": "local",
        "width": 16,
        "heads": 2,
        "layers": 1,
    }
    torch.manual_seed(0)
    model = CLIP(8, CLIPVisionCfg(**vision), CLIPTextCfg(**text))
    save_file(model.state_dict(), root / "open_clip_model.safetensors")
    model_cfg = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}
    (root / "open_clip_config.json").write_text(json.dumps(config))
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """An untrained text-conditional pixel pipeline for 16 × 16 pictures."""
    from attribution.pipelines import PixelTextToImagePipeline
    from demo.train import text_tower

    tower = text_tower(tiny_clip)
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=8,
    )
    pipeline = PixelTextToImagePipeline(
        unet, DDIMScheduler(), tower, AutoTokenizer.from_pretrained(tiny_clip)
    )
    root = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(root)
    return root


@pytest.fixture(scope="session")
def tiny_ddpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained unconditional DDPM for 8 × 8 grey pictures, as diffusers saves it."""
    torch.manual_seed(2)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    root = tmp_path_factory.mktemp("ddpm")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(root)
    return root


@pytest.fixture(scope="session")
def trained_ddpm(tiny_ddpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with three checkpoints of its training beside it."""
    root = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(tiny_ddpm, root)
    weights = load_file(root / "unet" / "diffusion_pytorch_model.safetensors")
    for step in (10, 20, 100):
        unet = root / f"checkpoint-{step}" / "unet"
        unet.mkdir(parents=True)
        earlier = {name: p * (1 - 1 / step) for name, p in weights.items()}
        save_file(earlier, unet / "diffusion_pytorch_model.safetensors")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded random numbers."""
    return np.random.default_rng(0)
