"""Gathers what goes into a bundle: what the daemon says of itself, the configuration, the log, and the box."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.log import is_secret_name
from qedge.fleet.diagnostics.model import BoxSettings
from qedge.wire.diagnostics import DoctorReport

_LOG_LINES: Final = 5000
_LOG_LIMIT_S: Final = 20.0
_PLACES: Final = ("_file", "_dir", "_path")
"""Ends of names of settings that say where something is."""

_MAX_SECRET_BYTES: Final = 64 * 1024


class SystemFacts(msgspec.Struct, frozen=True):
    """The box that a bundle was taken on."""

    kernel: str
    machine: str
    python: str
    cores: int
    load: tuple[float, ...]
    uptime_s: float
    packages: tuple[str, ...]


def gather(settings: BoxSettings, report: DoctorReport, told: Mapping[str, str], log: str) -> dict[str, str]:
    """Return the files of a bundle. `told` is what the daemon said, by file name. Blocks for some seconds."""
    files = {"doctor.json": _pretty(report), **told, "system.json": _pretty(system_facts())}
    for path in settings.files:
        with contextlib.suppress(OSError):
            files[f"configuration/{Path(path).name}"] = Path(path).read_text(errors="replace")
    if log:
        files["log.jsonl"] = log
    return files


def system_facts() -> SystemFacts:
    """Describe the box."""
    installed = {f"{each.name}=={each.version}" for each in distributions() if each.name}
    return SystemFacts(
        platform.release(),
        platform.machine(),
        platform.python_version(),
        os.cpu_count() or 0,
        os.getloadavg(),
        time.clock_gettime(time.CLOCK_BOOTTIME),
        tuple(sorted(installed)),
    )


def service_log(unit: str = "qedge") -> str:
    """Return the newest lines that the service wrote to the journal; empty where there is no journal."""
    program = shutil.which("journalctl")
    if program is None:
        return ""
    command = [program, "-u", unit, "-o", "cat", "--no-pager", "-n", str(_LOG_LINES)]
    try:
        ran = subprocess.run(  # noqa: S603 # a program of the system, and words of our own
            command, capture_output=True, timeout=_LOG_LIMIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.decode(errors="replace") if ran.returncode == 0 else ""


def read_secrets(paths: Iterable[str]) -> list[bytes]:
    """Read the secrets that the configuration names, so that they can be looked for; what cannot be read is left."""
    found: list[bytes] = []
    for path in paths:
        with contextlib.suppress(OSError), Path(path).open("rb") as opened:
            content = opened.read(_MAX_SECRET_BYTES)
            found += [content.strip(), *(line.strip() for line in content.splitlines())]
    return [secret for secret in dict.fromkeys(found) if secret and not secret.startswith(b"-----")]


def secrets_of(settings: BoxSettings) -> list[bytes]:
    """Return all secrets of a configuration that are known: in files that it names, and in itself."""
    return [*read_secrets(settings.secret_files), *configured_secrets(settings.files)]


def configured_secrets(paths: Iterable[str]) -> list[bytes]:
    """Find texts that stand below names of secrets, at any depth of TOML files; files that are none are left."""
    found: list[bytes] = []
    for path in paths:
        with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            found += [text.encode() for text in _secret_texts(values, secret=False)]
    return list(dict.fromkeys(found))


def _secret_texts(value: object, *, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            named = is_secret_name(str(name)) and not str(name).endswith(_PLACES)
            yield from _secret_texts(inner, secret=secret or named)
    elif isinstance(value, list):
        for inner in value:
            yield from _secret_texts(inner, secret=secret)
    elif secret and isinstance(value, str) and not value.startswith("/"):
        yield value
        yield from value.splitlines()


def _pretty(value: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
