"""A broker process for measurements, on a free loopback port, open to this box."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

IOTCORE = """id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "bench"
listen = "{host}:{port}"
next_connection_delay_ms = 0
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 200
dynamic_filters = true
"""


class Broker:
    """`kind` is `mosquitto` or `iotcore`; `host` is an address of this box."""

    def __init__(self, kind: str, folder: Path, host: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port: int = probe.getsockname()[1]
        config = folder / ("broker.conf" if kind == "mosquitto" else "broker.toml")  # rumqttd goes by the ending
        if kind == "mosquitto":
            lines = [f"listener {self.port} {host}", "allow_anonymous true", "set_tcp_nodelay true"]
            lines += ["max_queued_messages 100000"]  # the default of 1000 silently drops what is beyond it
            lines += ["user root"] if os.geteuid() == 0 else []
            config.write_text("\n".join(lines) + "\n")
            program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
            self._command = [program, "-c", str(config)]
        else:
            config.write_text(IOTCORE.format(host=host, port=self.port))
            code = "import sys; from iotcore import IotCoreBroker; IotCoreBroker(config_path=sys.argv[1]).run_forever()"
            self._command = [sys.executable, "-c", code, str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Broker:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return self
            if time.monotonic() > deadline:
                raise RuntimeError("the broker did not listen")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
