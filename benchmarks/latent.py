"""The data and the models of the Latent study: a small Stable Diffusion that learnt one artist.

Everything has the classes that people have: ``AutoencoderKL``, ``UNet2DConditionModel``, CLIP's
text tower, a LoRA in peft's format.  Only the sizes are small: pictures of 32 × 32, latents of
8 × 8.

``python benchmarks/latent.py build FOLDER`` writes FOLDER/base (every emoji, by one artist) and
FOLDER/train and FOLDER/validation (some, by the other artist, whom the LoRA learns).
``python benchmarks/latent.py vae FOLDER OUT`` trains the autoencoder on both artists' drawings.
``python benchmarks/latent.py base FOLDER VAE OUT`` trains the U-Net on the first artist's.
``python benchmarks/latent.py draw LORA FOLDER`` draws a quarter of the training captions.
The LoRA itself is trained by ``headwater train --base``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import EMAModel
from transformers import AutoTokenizer, CLIPTextModel

from attribution.denoisers import Denoiser, Drawing
from attribution.evaluation.generated import draw_folder
from attribution.image_set import ImageSet
from attribution.lora_training import Examples
from attribution.training import Descent, Draw, descend
from demo.dataset import shared_emoji, write
from demo.train import text_tower

SIZE = 32
TRAIN, VALIDATION = 400, 100
VAE_WIDTHS = (16, 32, 48)
VAE_STEPS, VAE_BATCH, VAE_RATE = 6000, 32, 2e-3
KL_WEIGHT = 1e-6
CLIP = Path(__file__).parent.parent / "demo" / "weights" / "clip"
UNET_WIDTHS = (48, 80)
BASE_STEPS, BASE_BATCH, BASE_RATE = 5000, 32, 1.5e-3
CAPTION_DROPOUT = 0.1
GUIDANCE = 2.0
BASE_ARTIST, LORA_ARTIST = "twemoji", "openmoji"


def build(folder: Path) -> None:
    """Write the image folders; what is there already is left alone."""
    emoji = list(shared_emoji(subcategories=None))
    order = np.random.default_rng(1).permutation(len(emoji))
    parts = {
        "base": (sorted(order), BASE_ARTIST),
        "all": (sorted(order), None),
        "train": (sorted(order[:TRAIN]), LORA_ARTIST),
        "validation": (sorted(order[TRAIN : TRAIN + VALIDATION]), LORA_ARTIST),
    }
    for part, (chosen, artist) in parts.items():
        target = folder / part
        if (target / "metadata.jsonl").is_file():
            continue
        write(target, [emoji[i] for i in chosen], SIZE)
        if artist:
            keep_artist(target, artist)


def keep_artist(folder: Path, artist: str) -> None:
    """Leave out the other artist's drawings."""
    rows = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if json.loads(row)["file_name"].startswith(f"{artist}/")]
    for file in folder.rglob("*.png"):
        if file.parent.name != artist:
            file.unlink()
    (folder / "metadata.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


def train_vae(folder: Path, out: Path) -> None:
    """An autoencoder of 4 × 8 × 8 latents, trained on pixels' squared error."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=VAE_WIDTHS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )
    data = ImageSet(folder / "all")
    images = torch.stack([data.tensor(i, SIZE) for i in range(len(data))])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=VAE_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, VAE_RATE, VAE_STEPS, pct_start=0.05)
    generator = torch.Generator().manual_seed(0)
    started, recent = time.monotonic(), 0.0
    for step in range(1, VAE_STEPS + 1):
        x = images[torch.randint(len(images), (VAE_BATCH,), generator=generator)]
        if step % 2:
            x = x.flip(3)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        squared = ((decoded - x) ** 2).mean()
        (squared + KL_WEIGHT * posterior.kl().mean()).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        recent = 0.98 * recent + 0.02 * squared.item() if step > 1 else squared.item()
        if step % 250 == 0:
            print(f"{step} {recent:.4f} {time.monotonic() - started:.0f} s", flush=True)
    with torch.no_grad():
        latents = torch.cat([vae.encode(x).latent_dist.mode() for x in torch.split(images, 100)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    vae.eval().half().save_pretrained(out)


def build_pipeline(vae: AutoencoderKL) -> StableDiffusionPipeline:
    """A fresh U-Net (random weights) between the autoencoder and the demo's text tower."""
    projected = text_tower(CLIP)
    tower = CLIPTextModel(projected.config)
    states = {name: p for name, p in projected.state_dict().items() if "projection" not in name}
    tower.load_state_dict({name.removeprefix("text_model."): p for name, p in states.items()})
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=UNET_WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=tower.config.hidden_size,
    )
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(
        CLIP, model_max_length=tower.config.max_position_embeddings
    )
    return StableDiffusionPipeline(
        vae, tower, tokenizer, unet, schedule, None, None, requires_safety_checker=False
    )


def train_base(folder: Path, vae: Path, out: Path) -> None:
    """The U-Net, by the recipe of a LoRA's training, but for all weights of it."""
    torch.manual_seed(0)
    pipeline = build_pipeline(AutoencoderKL.from_pretrained(vae, dtype=torch.float32))
    denoiser = Denoiser(pipeline)
    examples = Examples.of(denoiser, ImageSet(folder / "base"), flips=True)
    unet: Any = denoiser.network.train()
    average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    generator, started, losses = torch.Generator().manual_seed(0), time.monotonic(), [0.0]
    views, images = examples.x_0.shape[:2]

    def loss(draw: Draw) -> torch.Tensor:
        batch = len(draw.rows)
        x_0 = examples.x_0[torch.randint(views, (batch,), generator=generator), draw.rows]
        silent = torch.rand(batch, generator=generator) < CAPTION_DROPOUT
        told = examples.condition.at(torch.where(silent, images, draw.rows))
        predicted = denoiser.predict(denoiser.add_noise(x_0, draw.noise, draw.t), draw.t, told)
        squared = ((predicted - draw.noise) ** 2).mean()
        losses[0] = 0.99 * losses[0] + 0.01 * squared.item()
        return squared

    def at_step(step: int) -> None:
        average.step(unet.parameters())
        if step % 250 == 0:
            print(f"{step} {losses[0]:.4f} {time.monotonic() - started:.0f} s", flush=True)

    descent = Descent(BASE_STEPS, BASE_BATCH, BASE_RATE)
    descend(list(unet.parameters()), loss, examples.x_0.shape[1:], descent, generator, at_step)
    average.copy_to(unet.parameters())
    for part in (pipeline.vae, pipeline.text_encoder, unet):
        torch.nn.Module.half(part)
    pipeline.save_pretrained(out)


def prompts(data: Path) -> list[str]:
    """The captions that are drawn: a quarter of those trained on."""
    return [sample.text or "" for sample in ImageSet(data).samples][::4]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("folder", type=Path)
    vae = commands.add_parser("vae")
    vae.add_argument("folder", type=Path)
    vae.add_argument("out", type=Path)
    base = commands.add_parser("base")
    base.add_argument("folder", type=Path)
    base.add_argument("vae", type=Path)
    base.add_argument("out", type=Path)
    drawing = commands.add_parser("draw")
    drawing.add_argument("model", type=Path)
    drawing.add_argument("folder", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.command == "build":
        build(asked.folder)
    elif asked.command == "vae":
        train_vae(asked.folder, asked.out)
    elif asked.command == "base":
        train_base(asked.folder, asked.vae, asked.out)
    elif asked.command == "draw":
        texts = prompts(asked.folder.parent / "train")
        draw_folder(
            Denoiser.load(asked.model),
            texts,
            range(len(texts)),
            Drawing(0, 50, GUIDANCE),
            asked.folder,
        )


if __name__ == "__main__":
    main()
