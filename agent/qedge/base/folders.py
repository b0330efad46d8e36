"""Where a node keeps its files and what it is called, where nothing says so."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


def default_state_dir(environ: Mapping[str, str]) -> str:
    """Return where the state goes: systemd's StateDirectory, or the user's state folder (XDG)."""
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return service
    state = environ.get("XDG_STATE_HOME", "")
    home = environ.get("HOME", "") or os.path.expanduser("~")
    return str((Path(state) if state.startswith("/") else Path(home) / ".local" / "state") / "qedge")


def default_runtime_dir(environ: Mapping[str, str], state_dir: str) -> str:
    """Return where the socket goes: systemd's RuntimeDirectory, the user's, or a folder inside the state."""
    service = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if service:
        return service
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return str(Path(runtime) / "qedge" if runtime.startswith("/") else Path(state_dir) / "run")


def legal_name(hostname: str) -> str:
    """Make a node name of a host's name: its first label, other characters as `-`, at most 36."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", hostname.split(".")[0]).strip("-")[:36] or "node"
