"""The box as the updater sees it: systemctl, venv and pip, the socket of the daemon."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from qedge.base.errors import QedgeError
from qedge.crypto.pq_worker import PqTarget
from qedge.fleet.update.model import Layout, ServiceView
from qedge.wire.update import Version

_BUILD_LIMIT_S: Final = 900.0
_TRY_LIMIT_S: Final = 180.0
_STOP_LIMIT_S: Final = 60.0
_ASK_LIMIT_S: Final = 15.0
_READY_LIMIT_S: Final = 3.0
_ENVIRON: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}
"""Programs get nothing of the caller's environment, which could lead pip elsewhere."""


def python_version() -> str:
    """Return the version of this interpreter as manifests name it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def platform_name() -> str:
    """Return this platform as manifests name it."""
    return f"{sys.platform}-{os.uname().machine}"


def verify_second(algorithm: str, public_key: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
    """Check a signature of SLH-DSA in this process, which holds the interpreter for some milliseconds."""
    told = {
        "algorithm": algorithm,
        "public_key": public_key,
        "message": message,
        "signature": signature,
        "context": context,
    }
    return PqTarget({}, None).handle("verify", told) is True


class Box:
    """This box. `user` is the one whom the service runs as; the programs of a slot run as this user, never as root."""

    def __init__(self, layout: Layout, *, unit: str = "qedge.service", user: str = "qedge") -> None:
        self._layout = layout
        self._unit = unit
        self._user = user

    def now_s(self) -> float:
        """Return the time since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        """Return wall time."""
        return time.time_ns()

    def rest(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def python(self) -> str:
        """Return the version of this interpreter, of which the new environment is made."""
        return python_version()

    def platform(self) -> str:
        """Return the platform."""
        return platform_name()

    def build(self, slot: Path, wheels: Path, version: Version) -> None:
        """Make the environment: pip may take nothing but the wheels, and no program of theirs runs."""
        base = os.path.realpath(sys.executable)
        self._run([base, "-m", "venv", "--clear", str(slot)], _BUILD_LIMIT_S, "update.not_built")
        install = ["install", "--quiet", "--no-index", "--only-binary=:all:", "--no-cache-dir"]
        install += ["--disable-pip-version-check", "--find-links", str(wheels), f"qedge=={version}"]
        self._run([str(slot / "bin/python"), "-I", "-m", "pip", *install], _BUILD_LIMIT_S, "update.not_built")
        os.sync()  # a power cut after the switch must not find empty files

    def try_out(self, slot: Path, version: str) -> None:
        """Let the program say its version and check the configuration, as the user of the service."""
        program = str(slot / "bin/qedge")
        said = self._run([program, "--version"], _TRY_LIMIT_S, "update.not_built", as_user=True).strip()
        if said != f"qedge {version}":
            raise QedgeError(
                "update.not_built",
                f"The new version calls itself {said[:80]!r}, not qedge {version}.",
                fix="Make the bundle again.",
            )
        self._run([program, "check"], _TRY_LIMIT_S, "update.not_built", as_user=True)

    def stop(self, *, kill: bool = False) -> None:
        """Stop the service."""
        if kill:
            # Where nothing of it runs, systemctl says so and that is all right.
            self._systemctl("kill", "--signal=SIGKILL", self._unit, may_fail=True)
        self._systemctl("stop", self._unit, limit_s=_STOP_LIMIT_S)

    def start(self) -> None:
        """Start the service anew."""
        self._systemctl("reset-failed", self._unit, may_fail=True)
        self._systemctl("restart", "--no-block", self._unit)

    def look(self) -> ServiceView:
        """Return what systemd knows of the service."""
        names = ("ActiveState", "MainPID", "NRestarts")
        said = self._systemctl("show", "--property", ",".join(names), self._unit)
        facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid = int(facts.get("MainPID", "0") or 0)
        state = facts.get("ActiveState", "")
        ends = int(facts.get("NRestarts", "0") or 0)
        return ServiceView(state in ("active", "reloading"), state == "failed", pid, ends, _program_of(pid))

    def ready(self) -> bool:
        """Ask the daemon at its socket."""
        connection = _UnixConnection(str(self._layout.socket), _READY_LIMIT_S)
        try:
            connection.request("GET", "/health/ready", headers={"Host": "localhost"})
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def keep_databases(self, slot: Path) -> None:
        """Let the program in `slot` copy the databases."""
        self._databases(slot, "keep")

    def restore_databases(self, slot: Path) -> tuple[str, ...]:
        """Let the program in `slot` put them back."""
        return tuple(json.loads(self._databases(slot, "restore")))

    def _databases(self, slot: Path, action: str) -> str:
        module = ["-I", "-m", "qedge.fleet.update.databases", action, str(self._layout.state)]
        return self._run([str(slot / "bin/python"), *module], _BUILD_LIMIT_S, "update.no_copy", as_user=True)

    def _systemctl(self, *words: str, limit_s: float = _ASK_LIMIT_S, may_fail: bool = False) -> str:
        try:
            return self._run(["systemctl", *words], limit_s, "update.no_service")
        except QedgeError:
            if may_fail:
                return ""
            raise

    def _run(self, command: Sequence[str], limit_s: float, code: str, *, as_user: bool = False) -> str:
        """Run a program and return what it said; raises `code` with the end of its complaint."""
        who = _user(self._user) if as_user and os.geteuid() == 0 else None
        told = " ".join(command[:4])
        try:
            done = subprocess.run(  # noqa: S603 - the programs are those of this module, run without a shell
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                env={**_ENVIRON, "HOME": str(self._layout.state)},
                cwd="/",
                check=False,
                stdin=subprocess.DEVNULL,
                user=who.uid if who else None,
                group=who.gid if who else None,
                extra_groups=who.groups if who else None,
            )
        except subprocess.TimeoutExpired:
            raise QedgeError(code, f"`{told}` took longer than {limit_s:.0f} s.") from None
        except (OSError, KeyError) as error:
            raise QedgeError(code, f"`{told}` cannot be run: {error}.") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-300:]
            raise QedgeError(code, f"`{told}` ended with {done.returncode}: {said}")
        return done.stdout


@dataclass(frozen=True, slots=True)
class _User:
    uid: int
    gid: int
    groups: list[int]


def _user(name: str) -> _User:
    entry = pwd.getpwnam(name)
    return _User(entry.pw_uid, entry.pw_gid, os.getgrouplist(name, entry.pw_gid))


class _Connection(Protocol):
    sock: socket.socket


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Open the socket."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        channel.settimeout(self._timeout_s)
        cast("_Connection", self).sock = channel
        channel.connect(self._path)


def _program_of(pid: int) -> str:
    """Return the interpreter that a process was started with; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace") if pid else ""
    except OSError:
        return ""
