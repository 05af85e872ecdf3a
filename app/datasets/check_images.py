"""A program: decodes training images that nobody has looked at yet, and says what is wrong.

A hostile file can at worst end this process, which is limited in memory and time and belongs to
one registration.  stdin: the length of a file, and the file; stdout: the length of the fault, and
the fault, which is empty where the image is whole.  The formats to take are the arguments.
"""

from __future__ import annotations

import io
import resource
import signal
import struct
import sys
import warnings

from PIL import Image, UnidentifiedImageError

LENGTH = struct.Struct(">Q")
FAULT = struct.Struct(">I")
LONGEST_FAULT = 500
MEMORY_BYTES = 2_000_000_000
SECONDS = 30
TOO_MUCH = "decoding it needs more memory or time than is allowed"


def fault_of(content: bytes, formats: list[str]) -> str:
    """Why a file cannot be used as an image; empty if it can."""
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            # JPEGs are read to their end also where only an eighth of the size is wanted.
            image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
    except UnidentifiedImageError:
        return f"it is no {', '.join(formats)} image" if content else "it is empty"
    except MemoryError:
        return TOO_MUCH
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        return f"it cannot be decoded: {error}"
    return ""


def main() -> int:
    """Look at one file after the other until nobody sends any."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    formats, files, faults = sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer
    while header := files.read(LENGTH.size):
        content = files.read(LENGTH.unpack(header)[0])
        signal.alarm(SECONDS)
        fault = fault_of(content, formats).encode(errors="replace")[:LONGEST_FAULT]
        signal.alarm(0)
        faults.write(FAULT.pack(len(fault)) + fault)
        faults.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
