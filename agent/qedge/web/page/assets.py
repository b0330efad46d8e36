"""The files of the page, read once; there is no build step and nothing is fetched from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

PAGE_FILES: Final[dict[str, str]] = {
    "api.js": "text/javascript",
    "app.js": "text/javascript",
    "charts.js": "text/javascript",
    "circuit.js": "text/javascript",
    "devices.js": "text/javascript",
    "draw.js": "text/javascript",
    "events.js": "text/javascript",
    "host.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "index.html": "text/html",
    "jobs.js": "text/javascript",
    "layout.js": "text/javascript",
    "links.js": "text/javascript",
    "map.js": "text/javascript",
    "node.js": "text/javascript",
    "panels.css": "text/css",
    "style.css": "text/css",
    "theme.js": "text/javascript",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `etag` changes with its content."""

    body: bytes
    content_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """Read all page files (blocking: call it in a thread)."""
    folder = resources.files("qedge.web.page").joinpath("files")
    assets: dict[str, Asset] = {}
    for name, content_type in PAGE_FILES.items():
        body = folder.joinpath(name).read_bytes()
        assets[name] = Asset(body, content_type, hashlib.sha256(body).hexdigest()[:16])
    return assets
