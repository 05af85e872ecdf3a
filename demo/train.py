"""Train the demo's diffusion model: a small pixel U-Net that draws emoji from a caption.

``python -m demo.train`` writes ``demo/weights/model`` in diffusers' directory format, with
checkpoints of its training in it (TracInCP averages over them), a sample sheet
and the record from which the model card is written.  The text tower is the demo's own CLIP
(``demo/train_clip.py``), converted to transformers' class and frozen.  An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from safetensors.torch import load_file, save_file
from torchvision.utils import save_image
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

from attribution.denoisers import Denoiser, Drawing
from attribution.image_set import ImageSet
from attribution.pipelines import PixelTextToImagePipeline
from cli.progress import progress_bar
from demo.dataset import IMAGE_SIZE, caption

CAPTION_DROPOUT = 0.1  # classifier-free guidance needs the unconditional model too
MIN_SNR_GAMMA = 5.0
WIDTHS = (24, 48, 80)
CHECKPOINTS = (0.4, 0.6, 0.8, 1.0)
SHEET = (
    "red apple", "watermelon", "hamburger", "cactus", "octopus", "penguin", "snail", "violin",
    "mushroom", "frog face", "cherries", "slice of pizza", "sailboat", "lady beetle", "pineapple",
    "tropical fish",
)  # fmt: skip


def text_tower(clip: Path) -> CLIPTextModelWithProjection:
    """The text half of an open_clip directory, as transformers' class of the same network."""
    weights = load_file(clip / "open_clip_model.safetensors")
    config = json.loads((clip / "open_clip_config.json").read_text())["model_cfg"]
    text = config["text_cfg"]
    tokenizer = AutoTokenizer.from_pretrained(clip)
    tower = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            projection_dim=config["embed_dim"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    state = {
        "text_projection.weight": weights["text_projection"].T,
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "text_model.final_layer_norm.weight": weights["ln_final.weight"],
        "text_model.final_layer_norm.bias": weights["ln_final.bias"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    for layer in range(text["layers"]):
        ours, theirs = f"text_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            for name, target in names.items():
                state[f"{ours}.{target}.{kind}"] = weights[f"{theirs}.{name}.{kind}"]
            joined = weights[f"{theirs}.attn.in_proj_{kind}"].chunk(3)
            for projection, value in zip("qkv", joined, strict=True):
                state[f"{ours}.self_attn.{projection}_proj.{kind}"] = value
    tower.load_state_dict({name: value.contiguous() for name, value in state.items()})
    return tower.eval().requires_grad_(False)


def build_pipeline(
    clip: Path, size: int = IMAGE_SIZE, widths: tuple[int, int, int] = WIDTHS
) -> PixelTextToImagePipeline:
    """A fresh U-Net (random weights) beside the CLIP's text tower."""
    tower = text_tower(clip)
    unet = UNet2DConditionModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=tower.config.hidden_size,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=tower.config.projection_dim,
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True
    )
    return PixelTextToImagePipeline(unet, scheduler, tower, AutoTokenizer.from_pretrained(clip))


class Trainer:
    """The state of one run, saved to and resumed from one file."""

    def __init__(
        self, pipeline: PixelTextToImagePipeline, folder: ImageSet, steps: int, seed: int = 0
    ) -> None:
        self.pipeline, self.steps, self.step, self.seconds = pipeline, steps, 0, 0.0
        self.first_draw = seed * 1_000_000
        size = pipeline.unet.config["sample_size"]
        self.images = torch.stack([folder.tensor(i, size) for i in range(len(folder))])
        captions = [sample.text or "" for sample in folder.samples]
        states, pooled = pipeline.encode_prompt([*captions, ""])
        self.states, self.pooled, self.no_text = states, pooled, len(captions)
        self.unet: Any = pipeline.unet
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1.0, weight_decay=1e-3)
        self.ema = EMAModel(self.unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
        self.losses: list[float] = []

    def learning_rate(self, peak: float) -> float:
        """Warm-up over 300 steps, then a cosine down to zero."""
        return (
            peak
            * min(1.0, (self.step + 1) / 300)
            * (0.5 * (1 + math.cos(math.pi * self.step / self.steps)))
        )

    def train_step(self, batch_size: int, peak_learning_rate: float) -> float:
        """One step of the min-SNR weighted noise loss; every draw is seeded by the step."""
        generator = torch.Generator().manual_seed(self.first_draw + self.step)
        rows = torch.randint(len(self.images), (batch_size,), generator=generator)
        # Timesteps are stratified over the batch: less variance than independent draws.
        t = (torch.arange(batch_size) + torch.rand(batch_size, generator=generator)) / batch_size
        t = (t * 1000).long().clamp(0, 999)
        noise = torch.randn((batch_size, *self.images.shape[1:]), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < CAPTION_DROPOUT
        text = torch.where(dropped, self.no_text, rows)
        scheduler: Any = self.pipeline.scheduler
        noisy = scheduler.add_noise(self.images[rows], noise, t)
        predicted = self.unet(noisy, t, self.states[text], class_labels=self.pooled[text]).sample
        snr = compute_snr(scheduler, t)
        weight = snr.clamp(max=MIN_SNR_GAMMA) / snr
        # Min-SNR damps the clean end; the floor keeps the layout end from vanishing.
        loss = ((predicted - noise) ** 2).mean(dim=(1, 2, 3))
        (loss * weight.clamp(min=0.05)).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(peak_learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.unet.parameters())
        self.step += 1
        return float(loss.mean().item())

    def save(self, path: Path) -> None:
        """Write everything that resuming needs, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "unet": self.unet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a file written by ``save``."""
        state = torch.load(path, weights_only=True)
        self.unet.load_state_dict(state["unet"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]


def draw_sheet(pipeline: PixelTextToImagePipeline, path: Path) -> None:
    """Sixteen things in both styles, drawn with fixed seeds."""
    prompts = [caption(name, style) for style in ("twemoji", "openmoji") for name in SHEET]
    *_, last = Denoiser(pipeline).drawn_together(prompts, range(len(prompts)), Drawing(seed=0))
    save_image(last.sample.clamp(-1, 1) * 0.5 + 0.5, path, nrow=16, padding=2, pad_value=1.0)


def main() -> None:
    """Parse the command line, train or resume, and save the pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("demo/data"))
    parser.add_argument("--clip", type=Path, default=Path("demo/weights/clip"))
    parser.add_argument("--out", type=Path, default=Path("demo/weights/model"))
    parser.add_argument("--run", type=Path, default=Path("demo/runs/model"))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    pipeline = build_pipeline(arguments.clip)
    trainer = Trainer(pipeline, ImageSet(arguments.data), arguments.steps)
    unet: Any = pipeline.unet
    state = arguments.run / "state.pt"
    if state.is_file():
        trainer.load(state)
    kept = {round(fraction * arguments.steps): fraction for fraction in CHECKPOINTS}
    started, recent = time.monotonic() - trainer.seconds, []
    arguments.run.mkdir(parents=True, exist_ok=True)
    with progress_bar("training U-Net", arguments.steps) as advance:
        while trainer.step < arguments.steps:
            recent.append(trainer.train_step(arguments.batch_size, arguments.learning_rate))
            advance(trainer.step)
            if trainer.step % 500 == 0 or trainer.step in kept:
                trainer.seconds = time.monotonic() - started
                trainer.losses.append(round(sum(recent) / len(recent), 5))
                recent = []
                trainer.ema.store(unet.parameters())
                trainer.ema.copy_to(unet.parameters())
                draw_sheet(pipeline, arguments.run / f"sheet-{trainer.step}.png")
                if trainer.step in kept:
                    half = {name: p.half() for name, p in unet.state_dict().items()}
                    save_file(half, arguments.run / f"checkpoint-{trainer.step}.safetensors")
                trainer.ema.restore(unet.parameters())
                trainer.save(state)
                print(f"step {trainer.step} loss {trainer.losses[-1]}", flush=True)

    trainer.ema.copy_to(unet.parameters())
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_sheet(pipeline, arguments.out / "samples.png")
    pipeline.to(dtype=torch.float16).save_pretrained(arguments.out)
    for step in kept:
        if step < arguments.steps:  # the last one is the model itself
            unet_folder = arguments.out / f"checkpoint-{step}" / "unet"
            unet_folder.mkdir(parents=True, exist_ok=True)
            weights = (arguments.run / f"checkpoint-{step}.safetensors").read_bytes()
            (unet_folder / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    record = {
        "command": "python -m demo.train",
        "images": len(trainer.images),
        "parameters": sum(p.numel() for p in unet.parameters()),
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "threads": arguments.threads,
        "hours": round(trainer.seconds / 3600, 2),
        "losses_every_500_steps": trainer.losses,
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
