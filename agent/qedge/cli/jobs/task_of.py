"""From command-line options to the task of a job."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.wire.tasks import ExpectationTask, SampleTask, Task

_MAX_TASK_BYTES: Final = 16 * 2**20
_MAX_POINTS: Final = 10_000
_TERM: Final = re.compile(r"\s*([+-])?\s*(?:([0-9.eE]+(?:[-+][0-9]+)?)\s*\*?\s*)?((?:[XYZ][0-9]+[\s*]*)+|I\b)\s*")


def task_of(args: argparse.Namespace) -> Task | None:
    """Return the task that the options describe, None for plain counting; raises `client.usage`, `client.file`."""
    import msgspec

    if args.task:
        if args.expect or args.sweep:
            raise _wrong("--task stands alone: put observables and sweeps into the file.")
        try:
            return msgspec.json.decode(_read(args.task), type=Task)  # type: ignore[no-any-return] # a union
        except msgspec.DecodeError as error:
            raise _wrong(f"{args.task} is no task: {error}.") from error
    sweep = parse_sweep(args.sweep)
    if args.expect:
        return ExpectationTask(tuple(parse_sum(text) for text in args.expect), sweep=sweep)
    return SampleTask(sweep=sweep) if sweep else None


def parse_sum(text: str) -> dict[str, float]:
    """Read a Pauli sum such as `Z0 Z1 - 0.5 X0 + I`; raises `client.usage`."""
    terms: dict[str, float] = {}
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or match.end() == at or (at > 0 and match[1] is None):
            raise _wrong(f"--expect {text!r} cannot be read from {text[at : at + 20]!r} on.")
        try:
            weight = float(match[2] or 1)
        except ValueError:
            raise _wrong(f"--expect {text!r}: {match[2]!r} is no number.") from None
        name = " ".join(match[3].replace("*", " ").split())
        terms[name] = terms.get(name, 0.0) + (-weight if match[1] == "-" else weight)
        at = match.end()
    if not terms:
        raise _wrong("--expect needs a sum of Pauli products.")
    return terms


def parse_sweep(given: list[str]) -> dict[str, tuple[float, ...]]:
    """Read `NAME=START:STOP:COUNT` or `NAME=V1,V2,…` each; raises `client.usage`."""
    columns: dict[str, tuple[float, ...]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        try:
            if not (name and equals) or name in columns:
                raise ValueError
            if ":" in values:
                start, stop, count = values.split(":")
                number = int(count)
                if not 2 <= number <= _MAX_POINTS:
                    raise ValueError
                low, high = float(start), float(stop)
                columns[name] = tuple(low + (high - low) * step / (number - 1) for step in range(number))
            else:
                columns[name] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise _wrong(f"--sweep {text!r} is not NAME=START:STOP:COUNT or NAME=V1,V2, each name once.") from None
    return columns


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MAX_TASK_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(_MAX_TASK_BYTES + 1)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{file} cannot be read: {error.strerror or error}.", fix="Name a readable file."
        ) from error
    if len(data) > _MAX_TASK_BYTES:
        raise QedgeError("circuit.too_large", f"{file} is larger than 16 MiB.")
    return data


def _wrong(what: str) -> QedgeError:
    return QedgeError("client.usage", what, fix="See `qedge submit --help`.")
