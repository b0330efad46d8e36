"""Record a simulated link: `python -m qedge_drivers.sim_qkd FOLDER --blocks 4 preset=plan length_km=50`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

# A recording is worth compiled loops, which the driver takes where a folder for them is named before it is loaded.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "qedge" / "numba"))

from qedge_driver_api import DriverContext, DriverError, settings_from_mapping
from qedge_drivers.sim_qkd import SimQkd, SimQkdSettings


def _opened(role: str, values: dict[str, object], folder: str, stack: contextlib.ExitStack) -> SimQkd:
    driver = SimQkd(settings_from_mapping(SimQkdSettings, {**values, "role": role}))
    stack.callback(driver.close)
    state_dir = Path(folder) / role
    state_dir.mkdir()
    driver.open(DriverContext(role, str(state_dir), os.urandom, lambda: False))
    return driver


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main(arguments: list[str]) -> int:
    """Write `alice.npz` and `bob.npz` into a folder; settings go to both ends."""
    parser = argparse.ArgumentParser(prog="python -m qedge_drivers.sim_qkd", description=__doc__)
    parser.add_argument("folder", type=Path, help="where alice.npz and bob.npz go; it must be there")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of detections to record")
    parser.add_argument("settings", nargs="*", help="KEY=VALUE, such as preset=plan")
    chosen = parser.parse_intermixed_args(arguments)
    values: dict[str, object] = {
        key: _value(text) for key, _, text in (each.partition("=") for each in chosen.settings)
    }
    from qedge_drivers.sim_qkd.recording import record

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            alice, bob = (_opened(role, values, folder, stack) for role in ("alice", "bob"))
            clock_hz = float(str(alice.properties()["clock_hz"]))
            for path in record(alice, bob, chosen.blocks, chosen.folder, clock_hz=clock_hz):
                sys.stdout.write(f"{path}\n")
        except (DriverError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
