"""A program: an untrusted picture on stdin, a clean PNG on stdout.

It runs in a process of its own, limited in memory and time, so that a hostile file can at worst
kill this process.  It exits with one of the codes below and says why on stderr.
"""

from __future__ import annotations

import io
import resource
import sys
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
NOT_AN_IMAGE, BROKEN, TOO_LARGE = 65, 66, 67

MEMORY_BYTES = 1_500_000_000
CPU_SECONDS = 20


class RefusedError(Exception):
    """The picture is refused with an exit code and a reason."""


def decode(content: bytes, max_pixels: int) -> Image.Image:
    """The first frame, upright, as RGB on white, without metadata."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise RefusedError(NOT_AN_IMAGE, f"the file is no {', '.join(FORMATS)} image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedError(TOO_LARGE, str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise RefusedError(BROKEN, f"the file cannot be read: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedError(
            TOO_LARGE, f"{width} × {height} are more than the allowed {max_pixels} pixels"
        )
    try:
        image.seek(0)
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise RefusedError(BROKEN, f"the file cannot be decoded: {error}") from None
    return on_white(upright)


def on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts as a viewer shows them."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        ground.alpha_composite(rgba)
        image = ground
    if image.mode.startswith("I"):
        # Pillow opens 16-bit greys so; converting them cuts all but the darkest off to white.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def main() -> int:
    """Decode stdin; the argument is the largest allowed number of pixels."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    max_pixels = int(sys.argv[1])
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        image = decode(sys.stdin.buffer.read(), max_pixels)
    except RefusedError as refused:
        code, reason = refused.args
        print(reason, file=sys.stderr)
        return int(code)
    # A new image: pixels only, no EXIF, no profile, no text chunks.
    clean = Image.frombytes("RGB", image.size, image.tobytes())
    clean.save(sys.stdout.buffer, "PNG", compress_level=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
