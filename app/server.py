"""``python -m app.server HOST PORT``: the HTTP server, with the installation's logs."""

from __future__ import annotations

import math
import sys

import uvicorn

from app import logs
from app.config import Settings


def main() -> None:
    """Serve until SIGTERM, then answer what has begun."""
    settings = Settings()
    logs.configure(settings.log_format, "api")
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=sys.argv[1],
        port=int(sys.argv[2]),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )


if __name__ == "__main__":
    main()
