"""sd_notify (an edge module: it opens a datagram socket): READY, STATUS, RELOADING, STOPPING and WATCHDOG for systemd.

The protocol is in sd_notify(3): `NAME=value` lines in one datagram to the socket named by `NOTIFY_SOCKET`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager where there is one; does nothing elsewhere."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(usec) / 1e6 if watched and usec.isdigit() else 0.0
        """Seconds within which `watchdog` must be called; 0 where nobody watches."""

    def ready(self, status: str) -> None:
        """Say that the service does its work."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(f"STATUS={status}")

    def reloading(self, monotonic_ns: int) -> None:
        """Say that a reload began; `ready` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> None:
        """Say that the service stops."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def watchdog(self) -> None:
        """Tell the watchdog that the service is alive."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(text.replace("\0", "").encode(), self._address)
            except OSError:
                return  # a full or missing socket must not stop the daemon; the watchdog will notice
