"""Where the unix socket of this box's daemon may be, in the order in which it is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET_VARIABLE: Final = "QEDGE_SOCKET"
SOCKET_NAME: Final = "qedge.sock"
SYSTEM_SOCKET: Final = Path("/run/qedge") / SOCKET_NAME


def socket_candidates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the places to look at; `QEDGE_SOCKET` names the only one where it is set."""
    named = environ.get(SOCKET_VARIABLE, "")
    if named:
        return (Path(named),)
    places: list[Path] = []
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        places.append(Path(runtime) / "qedge" / SOCKET_NAME)
    home = environ.get("HOME", "")
    state = Path(environ["XDG_STATE_HOME"]) if environ.get("XDG_STATE_HOME") else Path(home) / ".local" / "state"
    if home or environ.get("XDG_STATE_HOME"):
        places += [state / "qedge" / "run" / SOCKET_NAME, state / "qedge" / SOCKET_NAME]
    return (*places, SYSTEM_SOCKET)


def find_socket(environ: Mapping[str, str]) -> Path:
    """Return the first socket that is there, or the first place where one could be."""
    candidates = socket_candidates(environ)
    for path in candidates:
        try:
            if path.is_socket():
                return path
        except OSError:
            continue
    return candidates[0]
