"""Fakes beside the ports: a box whose versions behave as told, and a second family of signatures that costs nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from qedge.base.errors import QedgeError
from qedge.fleet.update.disk import Disk
from qedge.fleet.update.model import ServiceView


class Behaviour(StrEnum):
    """What a version does."""

    WELL = "well"
    NOT_INSTALLABLE = "not installable"
    WRONG_CONFIGURATION = "wrong configuration"
    HANGS = "hangs"
    CRASHES = "crashes"
    NOT_READY = "not ready"
    MIGRATES_AND_HANGS = "migrates and hangs"


class FakeMachine:
    """A service manager with one service, on a clock that only moves when somebody rests.

    `behaviours` says what each version does; one that is not named is well. `schema` is that of the database.
    """

    def __init__(self, disk: Disk, behaviours: Mapping[str, Behaviour]) -> None:
        self._disk = disk
        self._behaviours = behaviours
        self._now_s = 1000.0
        self._started_s = 0.0
        self._starts = 0
        self.running = ""
        """The slot of the process that runs; empty: none."""

        self.schema = 1
        self.kept_schema = 0
        self.lost = 0
        """Times that a database was put back although nothing had changed it."""

    @property
    def version(self) -> str:
        """Return the version that runs."""
        return self._disk.version_of(self.running) if self.running else ""

    def boot(self) -> None:
        """Come up after a power cut: the service starts from the link, whatever it leads to."""
        self._now_s += 60.0
        self.start()

    def now_s(self) -> float:
        """Return the clock."""
        return self._now_s

    def utc_ns(self) -> int:
        """Return wall time."""
        return round(self._now_s * 1e9)

    def rest(self, seconds: float) -> None:
        """Move the clock."""
        self._now_s += seconds

    def python(self) -> str:
        """Return what the test's bundles are for."""
        return "3.11"

    def platform(self) -> str:
        """Return what the test's bundles are for."""
        return "linux-x86_64"

    def build(self, slot: Path, wheels: Path, version: str) -> None:
        """Make an environment with nothing in it but the records of its installation."""
        shutil.rmtree(slot, ignore_errors=True)
        install(slot, version)
        self._now_s += 30.0
        if not list(wheels.glob("*.whl")) or self._of(version) is Behaviour.NOT_INSTALLABLE:
            raise QedgeError("update.not_built", "pip says no.")

    def try_out(self, slot: Path, version: str) -> None:
        """Check the configuration."""
        if self._of(version) is Behaviour.WRONG_CONFIGURATION:
            raise QedgeError("update.not_built", "The configuration has faults.")

    def stop(self, *, kill: bool = False) -> None:
        """Stop, taking longer without force."""
        self._now_s += 0.1 if kill else 1.0
        self.running = ""

    def start(self) -> None:
        """Start what the link leads to."""
        self.running = self._disk.current_slot()
        self._started_s, self._starts = self._now_s, self._starts + 1
        if self._of(self.version) is Behaviour.MIGRATES_AND_HANGS:
            self.schema = 2

    def look(self) -> ServiceView:
        """Return what the behaviour makes of the time since the start."""
        behaviour, age_s = self._of(self.version), self._now_s - self._started_s
        interpreter = f"{self._disk.layout.slot(self.running)}/bin/python" if self.running else ""
        if behaviour is Behaviour.CRASHES:
            return ServiceView(False, False, 0, int(age_s / 2.5))
        too_new = self.schema > 1 and behaviour is not Behaviour.MIGRATES_AND_HANGS
        up = bool(self.running) and age_s > 2.0 and not too_new and not self._hangs(behaviour)
        return ServiceView(up, False, self._starts if self.running else 0, 0, interpreter)

    def ready(self) -> bool:
        """Say whether the version ever gets ready."""
        return self._of(self.version) is not Behaviour.NOT_READY

    def keep_databases(self, slot: Path) -> None:
        """Remember the schema; a copy of a database that the new version has changed already is a fault."""
        if self.running:
            raise QedgeError("update.no_copy", "The service runs.")
        self.kept_schema = self.schema

    def restore_databases(self, slot: Path) -> tuple[str, ...]:
        """Put the schema back."""
        if self.kept_schema == self.schema:
            return ()
        self.lost += self.schema == 1
        self.schema = self.kept_schema
        return ("qedge.sqlite3",)

    def _hangs(self, behaviour: Behaviour) -> bool:
        return behaviour in (Behaviour.HANGS, Behaviour.MIGRATES_AND_HANGS)

    def _of(self, version: str) -> Behaviour:
        return self._behaviours.get(version, Behaviour.WELL)


class FakeSecond:
    """Stands for the second family: signatures that anybody could make, but that only fit their message."""

    def __init__(self) -> None:
        self._made = 0

    def keygen(self) -> tuple[bytes, bytes]:
        """Make a key, another one each time."""
        self._made += 1
        secret = self._made.to_bytes(32, "big")
        return hashlib.sha256(secret).digest(), secret

    def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
        """Sign."""
        return _tag(hashlib.sha256(secret_key).digest(), message, context)


def fake_verify(algorithm: str, public_key: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
    """Check a signature of `FakeSecond`."""
    return bool(algorithm) and signature == _tag(public_key, message, context)


def _tag(public_key: bytes, message: bytes, context: bytes) -> bytes:
    return hashlib.sha256(b"\0".join([public_key, context, message])).digest()


def install(slot: Path, version: str) -> None:
    """Make an environment of a version that the disk and the daemon take for one."""
    (slot / f"lib/python3.11/site-packages/qedge-{version}.dist-info").mkdir(parents=True)
    (slot / "bin").mkdir()
    (slot / "bin" / "python").touch()
