"""`qedge decode`: stream detection events to the node and show what is committed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask

if TYPE_CHECKING:
    from qedge.cli.jobs.detections import Detections
    from qedge.client.decoding import DecodeStream
    from qedge.client.node import NodeClient
    from qedge.wire.decode import DecodeCommit, DecodeSummary, MemoryModel, StimModel

NAME: Final = "decode"
SUMMARY: Final = "Decode detection events while they come."
_CHUNK_BYTES: Final = 1 << 14
_MAX_MODEL_BYTES: Final = 64 * 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file", metavar="FILE", help="detection events, one record for each shot; - reads standard input"
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="`surface`, `repetition`, or a file with a detector error model"
    )
    parser.add_argument("--distance", type=int, default=3, metavar="D", help="distance of the code (default: 3)")
    parser.add_argument("--basis", choices=("x", "z"), default="z", help="basis of the memory (default: z)")
    parser.add_argument(
        "--error-rate", type=float, default=0.001, metavar="P", help="strength of the noise (default: 0.001)"
    )
    parser.add_argument(
        "--repeats-from", type=int, default=0, metavar="N", help="rounds of the model in the file repeat from here on"
    )
    parser.add_argument("--window", type=int, default=0, metavar="N", help="rounds of a window (default: 2 D)")
    parser.add_argument("--commit", type=int, default=0, metavar="N", help="rounds decided at a time (default: half)")
    parser.add_argument(
        "--format", choices=("01", "b8"), default="01", help="format of stim that the records have (default: 01)"
    )
    parser.add_argument(
        "--rounds", type=int, default=0, metavar="N", help="rounds of a record, the closing one included; b8 needs it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")


def run(args: argparse.Namespace) -> int:
    """Decode every record as a stream of its own."""
    model = _model(args)
    try:
        source = sys.stdin.buffer if args.file == "-" else Path(args.file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise _unreadable(args.file, error) from error
    with source:
        ask(args, lambda node: _decode_all(node, model, args, source))
    return 0


def _model(args: argparse.Namespace) -> MemoryModel | StimModel:
    """Return the model that the arguments name; raises `client.usage`, `client.file`."""
    import msgspec

    from qedge.wire.decode import MemoryModel, StimModel

    fields: dict[str, object]
    kind: type[MemoryModel | StimModel]
    if args.model in ("surface", "repetition"):
        kind, fields = MemoryModel, {"kind": "memory", "code": args.model, "distance": args.distance}
        fields |= {"basis": args.basis, "error_rate": args.error_rate}
    else:
        try:
            with Path(args.model).open("rb") as file:
                text = file.read(_MAX_MODEL_BYTES + 1).decode()
        except OSError as error:
            raise _unreadable(args.model, error) from error
        except UnicodeDecodeError as error:
            raise QedgeError("client.data", f"{args.model} is not text.", fix="Name a detector error model.") from error
        kind, fields = StimModel, {"kind": "stim", "text": text, "repeats_from": args.repeats_from}
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise QedgeError("client.usage", f"{error}.", fix="See `qedge decode --help`.") from error


async def _decode_all(
    node: NodeClient, model: MemoryModel | StimModel, args: argparse.Namespace, source: BinaryIO
) -> None:
    from qedge.cli.jobs.detections import Detections

    rest = await _begin(source, b"", args.format)
    cutter: Detections | None = None
    shot = 0
    while rest:
        async with node.decode(model, window=args.window, commit=args.commit) as stream:
            cutter = cutter or Detections(stream.opened, args.format, args.rounds)
            showing = asyncio.create_task(_show(stream, shot, as_json=args.json))
            try:
                rest = await _send_record(stream, cutter, rest, source)
                await showing
            finally:
                showing.cancel()
            _show_summary(await stream.summary(), shot, as_json=args.json)
        shot += 1
        rest = await _begin(source, rest, args.format)


async def _begin(source: BinaryIO, rest: bytes, records: str) -> bytes:
    """Return the beginning of the next record, empty where there is none."""
    while True:
        rest = rest.lstrip(b"\r\n") if records == "01" else rest
        if rest or not (rest := await _read(source)):
            return rest


async def _send_record(stream: DecodeStream, cutter: Detections, data: bytes, source: BinaryIO) -> bytes:
    """Send the rounds of one record, and return what was read beyond it."""
    while True:
        rounds: list[tuple[int, ...]] = []
        ended = not data
        for place in range(max(1, len(data))):
            for each in cutter.end() if ended else cutter.feed(data[place : place + 1]):
                if each.closing:
                    await _push(stream, rounds)
                    await stream.close([each.events])
                    return data[place + 1 :]
                rounds.append(each.events)
        await _push(stream, rounds)
        data = await _read(source)


async def _push(stream: DecodeStream, rounds: list[tuple[int, ...]]) -> None:
    at_once = max(1, stream.opened.credit // 2)
    for begin in range(0, len(rounds), at_once):
        await stream.push(rounds[begin : begin + at_once])


async def _read(source: BinaryIO) -> bytes:
    read: object = getattr(source, "read1", source.read)
    data = await asyncio.to_thread(read, _CHUNK_BYTES) if callable(read) else b""
    return data if isinstance(data, bytes) else b""


async def _show(stream: DecodeStream, shot: int, *, as_json: bool) -> None:
    async for commit in stream:
        _show_commit(commit, shot, as_json=as_json)


def _show_commit(commit: DecodeCommit, shot: int, *, as_json: bool) -> None:
    if as_json:
        _print({"shot": shot, **commit._asdict()})
    else:
        print(
            f"shot {shot}: {commit.committed} rounds, flips {commit.flips:b}, frame {commit.frame:b}, "
            f"{commit.worker_ns / 1e3:.0f} us",
            flush=True,
        )


def _show_summary(summary: DecodeSummary, shot: int, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        _print({"shot": shot, **msgspec.to_builtins(summary)})
    else:
        print(
            f"shot {shot} ended: {summary.committed} of {summary.rounds} rounds in {summary.windows} windows, "
            f"frame {summary.frame:b}, p50 {summary.latency_p50_us:.0f} us, p99 {summary.latency_p99_us:.0f} us",
            flush=True,
        )


def _print(fields: dict[str, object]) -> None:
    from qedge.cli.asking import print_json

    print_json(fields)


def _unreadable(file: str, error: OSError) -> QedgeError:
    return QedgeError("client.file", f"{file} cannot be read: {error.strerror or error}.", fix="Name a readable file.")
