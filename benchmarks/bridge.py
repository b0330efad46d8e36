"""Two mosquittos of two sites, the second with a bridge to the first, from the template that the guide shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TEMPLATE: Final = Path(__file__).parent.parent / "configs" / "brokers" / "mosquitto-site-bridge.conf"
_LIMIT_S: Final = 20.0


def mosquitto() -> str:
    """Return the program; empty where it is not installed."""
    return shutil.which("mosquitto") or next((p for p in ("/usr/sbin/mosquitto",) if Path(p).exists()), "")


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BridgedBrokers:
    """`ports`: those of the core and of the site. The bridge can be cut by ending the site's broker."""

    def __init__(self, folder: Path, fleet: str, more: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = (free_port(), free_port())
        self._configs = (folder / "core.conf", folder / "site.conf")
        self._processes: list[subprocess.Popen[bytes] | None] = [None, None]
        common = ["allow_anonymous true", "set_tcp_nodelay true", "max_queued_messages 100000"]
        common += ["user root"] if os.geteuid() == 0 else []
        for config, port in zip(self._configs, self.ports, strict=True):
            config.write_text("\n".join([f"listener {port} 127.0.0.1", *common]) + "\n")
        bridge = TEMPLATE.read_text().replace("core.example:8883", f"127.0.0.1:{self.ports[0]}")
        bridge = bridge.replace("FLEET", fleet).replace("SITE", "site")
        # the certificates of the template are those of a real site
        lines = [line for line in bridge.splitlines() if not line.startswith(("bridge_cafile", "bridge_certfile"))]
        lines = [line for line in lines if not line.startswith("bridge_keyfile")]
        self._configs[1].write_text(self._configs[1].read_text() + "\n".join([*lines, *more]) + "\n")

    def start(self, which: int) -> None:
        """Start the core (0) or the site (1), and wait until it listens."""
        program = mosquitto()
        self._processes[which] = subprocess.Popen(
            [program, "-c", str(self._configs[which])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _LIMIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[which]), 1):
                return
            if time.monotonic() > deadline:
                raise RuntimeError("the broker did not listen")
            time.sleep(0.02)

    def stop(self, which: int) -> None:
        """Kill -9."""
        process = self._processes[which]
        if process is not None:
            process.kill()
            process.wait()
            self._processes[which] = None

    def __enter__(self) -> BridgedBrokers:
        self.start(0)
        self.start(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(1)
        self.stop(0)
