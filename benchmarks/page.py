"""How fast the page is with a thousand training images behind a picture, and what it looks like.

A small model of random weights and 1,200 pictures are indexed; an answer lists 1,000 of them.
Debian's Chromium opens the pages several times and reports, from the start of the navigation: when
the document could be used (``domInteractive``), when the first and when all cards stood there, how
much the layout shifted (CLS), and the longest task that kept the page from answering.

    python benchmarks/page.py
    python benchmarks/page.py --screenshots docs/pictures    # of the demo, after `make demo`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from report import Report

from app.config import Settings
from attribution.training import DdpmTraining, build_unet
from cli.serve import running_server
from demo.paths import CLIP, DATA, MODEL, OUT
from demo.run import settings as demo_settings

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import ARGUMENTS, CHROMIUM

IMAGES, LISTED, OPENED = 1200, 1000, 5
WATCH = """
window.seen = { shift: 0, longest: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput) window.seen.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    window.seen.longest = Math.max(window.seen.longest, entry.duration);
}).observe({ type: "longtask", buffered: true });
"""
CARDS = "document.querySelectorAll('.wall .face').length"


@contextmanager
def thousand_images() -> Iterator[tuple[str, str]]:
    """A server with an answer of a thousand images: its address and the answer's path."""
    with tempfile.TemporaryDirectory(prefix="headwater-") as scratch:
        root = Path(scratch)
        write_pictures(root / "pictures")
        write_model(root / "model")
        settings = Settings(
            home=root / "var",
            model_roots=[root, CLIP],
            dataset_roots=[root],
            concurrency=2,
        )
        with running_server(settings) as url, httpx.Client(base_url=url, timeout=120) as http:
            paths = {"path": str(root / "model"), "clip_path": str(CLIP)}
            http.post("/v1/models", json={"name": "small", **paths}).raise_for_status()
            folder = {"name": "pictures", "path": str(root / "pictures")}
            http.post("/v1/datasets", json=folder).raise_for_status()
            config = {"timesteps": 1, "projection_dim": 64}
            wanted = {"model": "small", "dataset": "pictures", "config": config}
            index = http.post("/v1/indexes", json=wanted).raise_for_status().headers["Location"]
            while http.get(index).json()["state"] == "building":
                pass
            asked = http.post(
                "/v1/attributions",
                files={"image": (root / "pictures" / "0000.png").read_bytes()},
                data={"top_k": str(LISTED)},
                headers={"Prefer": "wait=60"},
            ).json()
            assert len(asked["result"]["contributors"]) == LISTED, asked
            yield url, f"/answers/{asked['id']}"


def write_pictures(folder: Path) -> None:
    """Small pictures of forty creators, of which no two are alike."""
    folder.mkdir()
    random, rows = np.random.default_rng(0), []
    for number in range(IMAGES):
        name = f"{number:04d}.png"
        coarse = random.integers(0, 256, (3, 3, 3), np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / name)
        creator = {"creator": f"Artist {number % 40}", "licence": "CC-BY-4.0"}
        rows.append(json.dumps({"file_name": name, "text": f"picture {number}"} | creator))
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def write_model(folder: Path) -> None:
    """A pixel DDPM with random weights."""
    from diffusers import DDPMPipeline

    torch.manual_seed(0)
    training = DdpmTraining(image_size=8, channels=3, widths=(8, 8))
    DDPMPipeline(build_unet(training), DDPMScheduler()).save_pretrained(folder)


def opened(browser: Browser, url: str, path: str, cards: int) -> dict[str, float]:
    """Milliseconds of one visit by somebody who has never been here."""
    # Waiting evaluates strings, which the page's policy forbids.
    context = browser.new_context(base_url=url, bypass_csp=True)
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(path)
    found: dict[str, float] = {}
    if cards:
        for name, count in (("first_cards", 1), ("all_cards", cards)):
            page.wait_for_function(f"{CARDS} >= {count}", polling="raf")
            found[name] = page.evaluate("performance.now()")
    page.wait_for_load_state("networkidle")
    timing = "performance.getEntriesByType('navigation')[0].domInteractive"
    found["interactive"] = page.evaluate(timing)
    found |= page.evaluate("window.seen")
    context.close()
    return found


def measure(report: Report) -> None:
    """The page where one asks, and the answer."""
    with thousand_images() as (url, answer), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for case, path, cards in (
            ("the question's page", "/", 0),
            (f"an answer of {LISTED} images", answer, LISTED),
        ):
            visits = [opened(browser, url, path, cards) for _ in range(OPENED)]
            for figure in visits[0]:
                values = [visit[figure] for visit in visits]
                worst = figure == "shift"
                value = max(values) if worst else float(np.median(values))
                target = "0" if worst else "-"
                unit = "layout shift (CLS)" if worst else f"{figure.replace('_', ' ')}, ms"
                report.add(case, unit, value, target, value == 0 if worst else True)
        browser.close()


def screenshots(folder: Path) -> None:
    """Every page of the demo's installation, in the sizes and colours that people have."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = sorted((OUT / "drawn").rglob("*.png"))
    if not drawn or not DATA.is_dir() or not MODEL.is_dir():
        raise SystemExit("run `make demo` first: the pictures are of its installation")
    with (
        running_server(demo_settings()) as url,
        httpx.Client(base_url=url, timeout=120) as http,
        sync_playwright() as playwright,
    ):
        octopus = next((file for file in drawn if "octopus" in file.name), drawn[0])
        asked: dict[str, Any] = http.post(
            "/v1/attributions",
            files={"image": octopus.read_bytes()},
            data={"caption": octopus.stem.rsplit("-", 1)[0].replace("-", ", ").replace("_", " ")},
            headers={"Prefer": "wait=60"},
        ).json()
        first = asked["result"]["contributors"][0]
        (dataset,) = http.get("/v1/datasets").json()["items"][:1]
        (model,) = http.get("/v1/models").json()["items"][:1]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        pages = {
            "ask": "/",
            "answer": f"/answers/{asked['id']}",
            "answers": "/answers",
            "datasets": "/datasets",
            "dataset": f"/datasets/{dataset['id']}",
            "sample": f"/sample?dataset={dataset['id']}&key={first['key']}",
            "contributor": f"/contributor?creator={first['creator']}",
            "contributors": "/contributors",
            "models": "/models",
            "model": f"/models/{model['id']}",
        }
        wide: dict[str, Any] = {"viewport": {"width": 1200, "height": 800}}
        dark = wide | {"color_scheme": "dark"}
        narrow: dict[str, Any] = {"viewport": {"width": 400, "height": 800}}
        shots = [(name, wide) for name in pages]
        shots += [("answer", dark), ("answer", narrow), ("ask", narrow), ("ask", dark)]
        for name, options in shots:
            kind = "-dark" if options is dark else "-narrow" if options is narrow else ""
            context = browser.new_context(base_url=url, **options)
            take(context.new_page(), pages[name], folder / f"{name}{kind}.png")
            context.close()
        browser.close()
    closed = demo_settings().model_copy(update={"access": "keys"})
    with running_server(closed) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(base_url=url, **wide)
        take(context.new_page(), "/answers", folder / "key.png")
        browser.close()


def take(page: Page, path: str, file: Path) -> None:
    """One picture, of as much as is worth showing."""
    page.goto(path)
    page.wait_for_load_state("networkidle")
    height = min(1600, page.evaluate("document.documentElement.scrollHeight"))
    width = page.viewport_size["width"] if page.viewport_size else 1200
    page.set_viewport_size({"width": width, "height": max(800, height)})
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file)
    with Image.open(file) as shot:  # flat colours: a palette is a third of the bytes
        small = shot.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def main() -> None:
    """Parse the command line; measure, or take pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--screenshots", type=Path)
    asked = parser.parse_args()
    if asked.screenshots:
        screenshots(asked.screenshots)
        return
    report = Report("page", asked.out)
    measure(report)
    report.end()


if __name__ == "__main__":
    main()
