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
from qedge.base.with_parent import with_parent
from qedge.cli.demo.gateway import gateway_config
from qedge.qkd.simd.cpu import cache_directory, selection, source_digest

if TYPE_CHECKING:
    from qedge.client.node import NodeClient

NAMES: Final = ("alpha", "beta", "gamma")
FLEET: Final = "demo"
STOP_LIMIT_S: Final = 8.0
START_LIMIT_S: Final = 30.0
_JOIN_LIMIT_S: Final = 60.0
FIBRE: Final = "fibre"
TRANSCEIVER: Final = "qkd"
_CONFIG: Final = """[node]
name = "{name}"
[drivers.qpu]
driver = "sim_qpu"
[drivers.qrng]
driver = "sim_qrng"
[engine]
assess_after_s = 600.0  # not while the scenes are played, which need the processor
"""
_BROKER: Final = """[broker]
listen = "127.0.0.1:{port}"
"""
# A slow link, so that there is time for other things, whose key lives for seconds, so that all can see it end.
_LINK: Final = """[drivers.qkd]
driver = "sim_qkd"
[drivers.qkd.settings]
role = "{role}"
link = "fibre"
fibre = "unix:{socket}"
preset = "plan"
max_count_rate_hz = 2e6
[qkd.links.fibre]
transceiver = "qkd"
peer = "{peer}"
clean_blocks = 1
[qkd.keys]
block_max_age_s = 3.0
key_max_age_s = 1.0
"""
POLICY: Final = """[crypto]
extra_key = "{policy}"
extra_key_period_s = 3.0
"""


class DemoNode:
    """One daemon. The first has the broker where all meet, and an end of a QKD link whose other one comes later."""

    def __init__(self, home: Path, name: str, config: str, kernels: Path, *, stays: bool = False) -> None:
        """`stays`: it goes on when the demo has ended; otherwise it ends with the demo, even where that is killed."""
        from qedge.client.node import NodeClient

        self.name = name
        self.home = home / name
        self.home.mkdir()
        self._config = config
        self._config_path = self.home / "agent.toml"
        self._kernels = kernels
        self._stays = stays
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

    def start(self, more: str = "") -> None:
        """Start the daemon and return at once; `more` is added to its configuration from now on.

        Only the main thread may: a node that does not stay ends with the thread that started it.
        """
        self._config += more
        self._config_path.write_text(self._config)
        command = [sys.executable, "-m", "qedge", "run", "--quiet", "--config", str(self._config_path)]
        command += ["--state-dir", str(self.home)]
        environ = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        environ["NUMBA_CACHE_DIR"] = str(self._kernels)
        with (self.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command if self._stays else with_parent(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
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


def _kernel_folder(home: Path) -> Path:
    """Return where compiled kernels are kept: with the user's caches, so that only the first demo compiles them."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    for place in (root / "qedge", home):
        folder = cache_directory(place, source_digest(), selection())
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files are code
        except OSError:
            continue
        if folder.stat().st_uid == os.geteuid() and os.access(folder, os.W_OK):
            return folder
    return home


class Stage:
    """All nodes of the demo, which may stay after it. `first` has the broker, an end of the link, and the page."""

    def __init__(self, home: Path, *, stays: bool = False) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configs = [_CONFIG.format(name=name) for name in NAMES]
        configs[0] += _BROKER.format(port=port) + gateway_config(home) + self.link_end("alice", NAMES[1])
        kernels = _kernel_folder(home)
        self.nodes = [
            DemoNode(home, name, config, kernels, stays=stays) for name, config in zip(NAMES, configs, strict=True)
        ]

    def link_end(self, role: str, peer: str) -> str:
        """Return the configuration of one end of the link."""
        return _LINK.format(role=role, peer=peer, socket=self.home / "fibre.sock")

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
            *with_parent(sys.executable, "-m", "qedge", "--socket", str(node.socket), *words),
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
