"""One image's features on Stable Diffusion 1.5 with a LoRA of rank 128, beside its plain passes.

The configuration is the real one, the weights are random: speed and memory do not depend on them.
One image of 512 × 512 under the product's default, three timesteps in one batch and four regions:
one forward pass and four backward passes of three rows.  *Plain passes* are the same without
projections, as training the LoRA has them.  Each is measured in a process of its own, so that its
peak of memory is its own; the autoencoder's pass over the picture is told apart.

    python benchmarks/stable_diffusion.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from attribution.gradients import GradientProjector
from attribution.index.config import IndexConfig
from attribution.known_models import KNOWN_MODELS
from attribution.outputs import output_function

RESULTS = Path(__file__).parent / "results" / "stable-diffusion.json"
MODEL = KNOWN_MODELS["sd15-lora"]
CONFIG = IndexConfig(parameters="lora")
TOKENS, WIDTH, SIDE = 77, 768, 512
PARTS = ("nothing", "autoencoder", "plain", "features")


def measure(part: str, repeats: int) -> dict[str, float]:
    """Seconds (the best of some repeats) and the peak of memory of one part."""
    torch.manual_seed(0)
    run = autoencoder() if part == "autoencoder" else passes(projected=part == "features")
    took = []
    for _ in range(0 if part == "nothing" else repeats):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(min(took, default=0), 2), "peak_bytes": peak}


def autoencoder() -> Any:
    """The VAE's encoder over one picture."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    ).eval()
    picture = torch.randn(1, 3, SIDE, SIDE)

    def encode() -> None:
        with torch.no_grad():
            vae.encode(picture)

    return encode


def passes(*, projected: bool) -> Any:
    """One forward and m backward passes of T rows: with projected features, or plain."""
    network = MODEL.build("cpu")
    adapter = [p for name, p in network.named_parameters() if ".lora_" in name]
    network.requires_grad_(False)
    for p in adapter:
        torch.nn.init.normal_(p, std=0.02)
        p.requires_grad_(True)
    rows = CONFIG.timesteps
    x = torch.randn(rows, *MODEL.shape)
    t = torch.tensor([50, 150, 300])
    states = torch.randn(rows, TOKENS, WIDTH)
    output = output_function(CONFIG.output, CONFIG.probes, MODEL.shape)
    cotangents = output.cotangents(x, x)

    def plain() -> None:
        predicted = network(x, t, states).sample
        for cotangent in cotangents:
            torch.autograd.grad(predicted, adapter, cotangent, retain_graph=True)

    if not projected:
        return plain
    projector = GradientProjector(
        network,
        parameters=CONFIG.parameters,
        kind=CONFIG.projection,
        projection_dim=CONFIG.projection_dim,
    )

    def features() -> None:
        with projector.recording():
            predicted = network(x, t, states).sample
            for cotangent in cotangents:
                projector.project(predicted, cotangent)

    return features


def in_a_process_of_its_own(part: str, repeats: int, threads: int) -> dict[str, float]:
    """What ``measure`` finds there."""
    command = [sys.executable, __file__, "--part", part]
    command += ["--repeats", str(repeats), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{part}: {found['seconds']} s, {found['peak_bytes'] / 1e9:.2f} GB", flush=True)
    return found


def main() -> None:
    """Parse the command line, measure all parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.part:
        print(json.dumps(measure(asked.part, asked.repeats)))
        return
    found = {part: in_a_process_of_its_own(part, asked.repeats, asked.threads) for part in PARTS}
    network = MODEL.build()
    report = {
        "command": "python benchmarks/stable_diffusion.py",
        "model": MODEL.title,
        "parameters": sum(p.numel() for p in network.parameters()),
        "adapter": sum(p.numel() for n, p in network.named_parameters() if ".lora_" in n),
        "config": CONFIG.to_dict(),
        "threads": asked.threads,
        "parts": found,
        "seconds_an_image": round(
            found["features"]["seconds"] + found["autoencoder"]["seconds"], 2
        ),
        "features_over_plain_passes": round(
            found["features"]["seconds"] / found["plain"]["seconds"], 2
        ),
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    print(f"features cost {report['features_over_plain_passes']} × the plain passes")


if __name__ == "__main__":
    main()
