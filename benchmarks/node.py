"""A daemon process for measurements: started as a user would, told by a notify socket when it is ready."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Node:
    """`qedge run` below `home`; `ready_s` is the time from exec to READY=1."""

    def __init__(self, home: Path, config: str = "") -> None:
        self.home = home
        self.socket = home / "run" / "qedge.sock"
        home.mkdir(parents=True, exist_ok=True)
        (home / "agent.toml").write_text(config)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(home / "notify.sock"))
        self._notify.settimeout(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self.ready_s = 0.0

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Node:
        self.start()
        self.wait_ready()
        return self

    def start(self) -> None:
        """Start the process and return at once."""
        command = [sys.executable, "-m", "qedge", "run", "--config", str(self.home / "agent.toml")]
        command += ["--state-dir", str(self.home), "--quiet"]
        environ = os.environ | {"NOTIFY_SOCKET": str(self.home / "notify.sock")}
        self._started = time.perf_counter()
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)

    def wait_ready(self, limit_s: float = 60.0) -> None:
        """Wait until it says that it is ready."""
        assert self._process is not None
        while True:
            with contextlib.suppress(TimeoutError):
                if self._notify.recv(4096).startswith(b"READY=1"):
                    break
            if self._process.poll() is not None or time.perf_counter() - self._started > limit_s:
                raise RuntimeError(f"the daemon is not ready: {(self.home / 'log').read_text()[-2000:]}")
        self.ready_s = time.perf_counter() - self._started

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._notify.close()

    def kill(self) -> int:
        """End the daemon as a power cut would; returns the time of it, UTC in nanoseconds."""
        assert self._process is not None
        utc_ns = time.time_ns()
        self._process.kill()
        self._process.wait()
        return utc_ns

    def pss_mib(self) -> float:
        """Return the proportional set size of the daemon process alone."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("this kernel does not tell the proportional set size")

    def rss_kib(self) -> int:
        """Return the resident memory of the daemon process alone."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("this kernel does not tell the resident set size")

    def waited_s(self) -> float:
        """Return the time for which the daemon's main thread could have run and had no processor."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def cpu_s(self) -> float:
        """Return the processor time that the daemon process has used, with all its threads and without children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
