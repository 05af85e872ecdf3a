"""Train the demo's small CLIP on the demo's images and captions, with open_clip.

Its image tower is the prefilter and the similarity column of every answer; its text tower also
conditions the demo's diffusion model.  ``python -m demo.train_clip`` takes some minutes on two
cores and writes ``demo/weights/clip`` in open_clip's own directory layout.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP, ClipLoss, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from attribution.image_set import ImageSet
from cli.progress import progress_bar

EMBED_DIM = 96
CONTEXT_LENGTH = 16
VOCABULARY = 1024
VISION = CLIPVisionCfg(layers=4, width=128, head_width=32, patch_size=4, image_size=32)
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}


def train_tokenizer(captions: list[str], folder: Path) -> Any:
    """Fit a byte-pair vocabulary to the captions and save it in transformers' format.

    CLIP pools at the token with the highest number, so the end token comes last.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<pad>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=["<pad>", "<start>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<start>", "<end>")],
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<pad>",
        model_max_length=CONTEXT_LENGTH,
    )
    wrapped.save_pretrained(folder)
    return wrapped


def train(data: Path, out: Path, steps: int, batch_size: int, learning_rate: float) -> None:
    """Contrastive training, captions against randomly shifted and coloured images."""
    torch.manual_seed(0)
    folder = ImageSet(data)
    images = torch.stack([folder.tensor(i, size=VISION.image_size) for i in range(len(folder))])
    captions = [sample.text or "" for sample in folder.samples]
    tokenizer = train_tokenizer(captions, out)
    text = CLIPTextCfg(
        context_length=CONTEXT_LENGTH,
        vocab_size=len(tokenizer),
        hf_tokenizer_name="local",
        width=128,
        heads=4,
        layers=3,
    )
    tokens = torch.tensor(tokenizer(captions, padding="max_length", truncation=True)["input_ids"])
    model = CLIP(EMBED_DIM, VISION, text)
    augment = v2.Compose(
        [
            v2.RandomAffine(degrees=8, translate=(0.1, 0.1), scale=(0.85, 1.1), fill=1.0),
            v2.ColorJitter(0.15, 0.15, 0.15, 0.03),
            v2.GaussianNoise(sigma=0.03),
        ]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, s / 50) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    loss_of = ClipLoss()
    loader = DataLoader(TensorDataset(images, tokens), batch_size, shuffle=True, drop_last=True)
    started, step, losses = time.monotonic(), 0, []
    with progress_bar("training CLIP", steps) as advance:
        while step < steps:
            for image, token in loader:
                varied = torch.stack([augment(x * 0.5 + 0.5) for x in image]) * 2 - 1
                features = model(varied, token)
                loss = loss_of(*features)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(0, math.log(100))
                step += 1
                losses.append(loss.item())
                advance(step)
                if step == steps:
                    break

    out.mkdir(parents=True, exist_ok=True)
    half = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(half, out / "open_clip_model.safetensors")
    model_cfg = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {k: v for k, v in asdict(VISION).items() if v is not None},
        "text_cfg": {k: v for k, v in asdict(text).items() if v is not None},
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    record = {
        "command": "python -m demo.train_clip",
        "images": len(folder),
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "first_loss": round(losses[0], 3),
        "last_loss": round(sum(losses[-20:]) / len(losses[-20:]), 3),
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("demo/data"))
    parser.add_argument("--out", type=Path, default=Path("demo/weights/clip"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        arguments.data,
        arguments.out,
        arguments.steps,
        arguments.batch_size,
        arguments.learning_rate,
    )


if __name__ == "__main__":
    main()
