"""The nodes of the demo: real daemons on this box, each with a state folder of its own below one that goes away."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.demo_gateway import gateway_config

if TYPE_CHECKING:
    from qedge.client.node import NodeClient

NAMES: Final = ("alpha", "beta", "gamma")
FLEET: Final = "demo"
STOP_LIMIT_S: Final = 8.0
START_LIMIT_S: Final = 30.0
_JOIN_LIMIT_S: Final = 60.0
_FIRST: Final = """[node]
name = "alpha"
[broker]
listen = "127.0.0.1:{port}"
"""
_OTHER: Final = """[node]
name = "{name}"
[drivers.qpu]
driver = "sim_qpu"
[drivers.qrng]
driver = "sim_qrng"
"""


class DemoNode:
    """One daemon; the first has everything a box without configuration has, and the broker where all meet."""

    def __init__(self, home: Path, name: str, config: str) -> None:
        from qedge.client.node import NodeClient

        self.name = name
        self.home = home / name
        self.home.mkdir()
        self._config = self.home / "agent.toml"
        self._config.write_text(config)
        self.socket = self.home / "run" / "qedge.sock"
        self.client: NodeClient = NodeClient(self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_alive(self) -> bool:
        """Whether the daemon runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the daemon and return at once."""
        command = [sys.executable, "-m", "qedge", "run", "--quiet", "--config", str(self._config)]
        command += ["--state-dir", str(self.home)]
        environ = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        with (self.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
            )

    def kill(self) -> None:
        """Kill the daemon with signal 9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop the daemon, by force where it does not."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    async def wait_ready(self) -> None:
        """Wait until the node says that it is ready; raises `client.no_daemon` with its last words where it ended."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                if (await self.client.status()).ready:
                    return
            except QedgeError as error:
                if error.code not in ("client.no_daemon", "client.timeout", "internal.stopping"):
                    raise
            if not self.is_alive or time.monotonic() > deadline:
                log = (self.home / "daemon.log").read_text("utf-8", "replace").strip().splitlines()
                raise QedgeError(
                    "client.no_daemon",
                    f"The daemon of {self.name} did not start: " + " | ".join(log[-3:]),
                    fix="Run `qedge run` to see its messages.",
                )
            await asyncio.sleep(0.05)


class Stage:
    """All nodes of the demo. `first` has the broker, the link and the page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configs = [_FIRST.format(port=port), *(_OTHER.format(name=name) for name in NAMES[1:])]
        configs[0] += gateway_config(home)
        self.nodes = [DemoNode(home, name, config) for name, config in zip(NAMES, configs, strict=True)]

    @property
    def first(self) -> DemoNode:
        """The node with the broker."""
        return self.nodes[0]

    async def __aenter__(self) -> Stage:
        for node in self.nodes:
            await node.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.client.__aexit__(None, None, None)

    def start(self) -> None:
        """Start all daemons at once."""
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        """Stop all daemons, the one with the broker last."""
        for node in reversed(self.nodes):
            node.stop()

    async def invite(self, count: int) -> Invitations:
        """Run `qedge fleet invite` at the first node and return it once it has printed its lines."""
        passphrase = self.home / "passphrase"
        passphrase.write_text(secrets.token_hex(16) + "\n")
        passphrase.chmod(0o600)
        process = await self._command(
            self.first,
            *("fleet", "invite", "--this-box", "--fleet", FLEET, "--folder", str(self.home / "authority")),
            *("--passphrase-file", str(passphrase), "--count", str(count)),
        )
        lines: list[str] = []
        try:
            async with asyncio.timeout(_JOIN_LIMIT_S):
                while len(lines) < count and process.stdout is not None and (line := await process.stdout.readline()):
                    lines.append(line.decode().strip())
        except TimeoutError:
            process.kill()
        if len(lines) < count:
            _, errors = await process.communicate()
            raise QedgeError("fleet.join_refused", "`qedge fleet invite` failed: " + errors.decode()[-300:])
        return Invitations(process, lines)

    async def join(self, node: DemoNode, line: str) -> None:
        """Run `qedge join` at `node`, with the invitation on its standard input."""
        process = await self._command(node, "join")
        _, errors = await asyncio.wait_for(process.communicate(line.encode() + b"\n"), _JOIN_LIMIT_S)
        if process.returncode:
            raise QedgeError("fleet.join_refused", f"`qedge join` failed at {node.name}: {errors.decode()[-300:]}")

    async def _command(self, node: DemoNode, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "qedge", "--socket", str(node.socket), *words),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )


class Invitations:
    """The lines that a running `qedge fleet invite` printed."""

    def __init__(self, process: asyncio.subprocess.Process, lines: list[str]) -> None:
        self._process = process
        self.lines = lines

    async def finish(self) -> int:
        """Wait until the command ended, which it does when all boxes have joined; returns its exit code."""
        await asyncio.wait_for(self._process.communicate(), _JOIN_LIMIT_S)
        return self._process.returncode or 0
