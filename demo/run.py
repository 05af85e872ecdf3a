"""The demo: draw pictures, upload them over HTTP, and show whose drawings made them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from app.config import Settings
from attribution.image_data.folder import METADATA
from attribution.index.manifest import file_digest, weights_digest
from cli.answer_table import show
from cli.client import Client
from cli.progress import console, progress_bar, stage_progress
from cli.serve import running_server
from demo.dataset import build as build_dataset
from demo.dataset import caption
from demo.paths import CLIP, DATA, HOME, MODEL, OUT, ROOT
from demo.picture import draw_answer

THINGS = ("hamburger", "octopus", "red apple", "cactus", "penguin", "slice of pizza")


def prompts(count: int) -> list[tuple[str, int]]:
    """Prompts and seeds: the same things, the two styles in turn."""
    styles = ("twemoji", "openmoji")
    return [(caption(THINGS[i % len(THINGS)], styles[i % 2]), 7 + i) for i in range(count)]


def draw(count: int, folder: Path) -> list[tuple[str, Path]]:
    """Draw pictures with the model, in this process, as its owner would; keep what is there."""
    wanted = [
        (prompt, seed, folder / f"{prompt.replace(', ', '-').replace(' ', '_')}-{seed}.png")
        for prompt, seed in prompts(count)
    ]
    if not all(path.is_file() for _, _, path in wanted):
        from attribution.denoisers import Denoiser, Drawing

        denoiser = Denoiser.load(MODEL)
        folder.mkdir(parents=True, exist_ok=True)
        with progress_bar("drawing pictures", 50) as advance:
            steps = []
            for step in denoiser.drawn_together(
                [prompt for prompt, _, _ in wanted],
                [seed for _, seed, _ in wanted],
                Drawing(seed=0),
            ):
                steps.append(step)
                advance(len(steps))
        pictures = denoiser.decode(steps[-1].sample)
        for (_, _, path), picture in zip(wanted, pictures, strict=True):
            picture.save(path)
    return [(prompt, path) for prompt, _, path in wanted]


def settings() -> Settings:
    """The embedded set-up, with everything below ``demo/var``."""
    return Settings(home=HOME, model_roots=[ROOT], dataset_roots=[ROOT], concurrency=2)


def run(pictures: int = 4) -> None:
    """Build what is missing, ask over HTTP, print the answers and write ``demo/out/*.png``."""
    if not (DATA / METADATA).is_file():
        with progress_bar("building the emoji set", 1) as advance:
            build_dataset(DATA)
            advance(1)
    # Named by their content: a name stands for one dataset and one model for ever.
    dataset = f"emoji-{file_digest(DATA / METADATA)[:8]}"
    model = f"emoji-{weights_digest(MODEL, '*/*.safetensors')[:8]}"
    drawn = draw(pictures, OUT / "drawn" / model)
    with running_server(settings()) as url, Client(url) as client:
        console.print(f"serving on {url}")
        client.register_dataset(dataset, DATA)
        client.register_model(model, MODEL, CLIP)
        with stage_progress("index") as advance_stage:
            client.build_index(model, dataset, {}, on_progress=advance_stage)
        for prompt, path in drawn:
            with stage_progress(path.stem) as advance_stage:
                answer = client.attribute_image(
                    path, caption=prompt, model=model, top_k=10, on_progress=advance_stage
                )
            console.rule(f"{path.name}: “{prompt}”")
            show(answer, console)
            target = OUT / path.name
            picture = Image.open(path)
            draw_answer(picture, answer, lambda key: Image.open(DATA / key), prompt, target)
            console.print(f"written: {target}")
