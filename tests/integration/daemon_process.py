"""A real daemon in a process of its own, for tests that break things."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.node import NodeStatus

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
UNASKED_NEVER = "assess_every_s = 0.0\n"


class DaemonProcess:
    """`qedge run` below `home`; `config` is TOML text added to what a test node needs.

    `within` is a command that starts another one in its own place, in a network namespace for example. QPUs are
    assessed on request only: a daemon that lives for half a minute would spend seconds of the processor on it.
    """

    def __init__(
        self, home: Path, config: str = "", environ: dict[str, str] | None = None, within: tuple[str, ...] = ()
    ) -> None:
        self.within = within
        self.home = home
        self.socket = home / "run" / "qedge.sock"
        self.config_path = home / "agent.toml"
        self.log_path = home / "daemon.log"
        self.environ = environ or {}
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def write_config(self, config: str) -> None:
        """Replace the configuration file (a reload is asked for with SIGHUP)."""
        if "[engine]\n" not in config:
            config += "\n[engine]\n"
        if UNASKED_NEVER not in config:
            config = config.replace("[engine]\n", f"[engine]\n{UNASKED_NEVER}", 1)
        self.config_path.write_text(config)

    def start(self) -> None:
        """Start the process and return at once."""
        command = [*self.within, sys.executable, "-m", "qedge", "run", "--quiet"]
        command += ["--config", str(self.config_path), "--state-dir", str(self.home)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
        if "transceiver =" not in self.config_path.read_text():
            # compiled kernels are kept there for daemons that distil; any other daemon has none ready
            environ.pop("NUMBA_CACHE_DIR", None)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ | self.environ
            )

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self.process is not None
        return self.process.pid

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9 and reap."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit code. Kills a daemon that does not stop within ten seconds."""
        assert self.process is not None
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def log(self) -> str:
        """Return everything the daemon wrote."""
        return self.log_path.read_text("utf-8", "replace")

    def client(self) -> NodeClient:
        """Make a client of this daemon's socket."""
        return NodeClient(self.socket)

    async def wait_status(self, condition: Callable[[NodeStatus], bool], limit_s: float = 60.0) -> NodeStatus:
        """Poll the status until `condition` holds; fails with the daemon's log where it never does."""
        deadline = time.monotonic() + limit_s
        last: object = None
        async with self.client() as client:
            while time.monotonic() < deadline:
                try:
                    status = await client.status()
                    last = status
                    if condition(status):
                        return status
                except QedgeError as error:
                    last = error
                assert self.is_alive(), f"the daemon ended: {self.log()[-4000:]}"
                await asyncio.sleep(0.1)
        raise AssertionError(f"condition never held; last: {last}; log: {self.log()[-4000:]}")

    async def wait_up(self, limit_s: float = 60.0) -> NodeStatus:
        """Wait until the node is ready and its QPU, random source and broker connection are up."""
        return await self.wait_status(
            lambda status: (
                status.ready
                and status.bus.connected
                and any(driver.kind == "qpu" and driver.operating_state == "up" for driver in status.drivers)
            ),
            limit_s,
        )


async def submit_many(client: NodeClient, number: int, program: str = BELL, shots: int = 200) -> list[str]:
    """Submit `number` different jobs at once and return the ids of the accepted ones, in order."""
    jobs = await asyncio.gather(
        *(client.submit(JobSubmission(program=program, shots=shots, seed=index)) for index in range(number))
    )
    return [job.id for job in jobs]


async def wait_ended(daemon: DaemonProcess, job_ids: list[str], limit_s: float = 60.0) -> list[JobView]:
    """Wait until all jobs have ended, also across restarts of the daemon, and return them."""
    deadline = time.monotonic() + limit_s
    ended: dict[str, JobView] = {}
    async with daemon.client() as client:
        for job_id in job_ids:
            while job_id not in ended:
                assert time.monotonic() < deadline, (
                    f"{len(job_ids) - len(ended)} jobs never ended; {daemon.log()[-3000:]}"
                )
                try:
                    job = await client.job(job_id, wait_s=5.0)
                except QedgeError as error:
                    assert error.code in ("client.no_daemon", "client.timeout"), error
                    await asyncio.sleep(0.1)
                    continue
                if job.state in ENDED:
                    ended[job_id] = job
    return [ended[job_id] for job_id in job_ids]
