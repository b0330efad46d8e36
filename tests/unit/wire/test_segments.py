"""What segments say on the bus and between nodes: what was written once stays readable."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.wire.segments import (
    ChannelSecret,
    CommandAsk,
    CommandView,
    OnwardReading,
    OnwardReadings,
    OnwardSealed,
    SegmentAsk,
    SegmentGranted,
    SegmentHeard,
    SegmentKey,
    SegmentQuit,
    SegmentReading,
    SegmentReadings,
)

GOLDEN = Path(__file__).parent / "golden_segments"
UTC_NS = 1_800_000_000_000_000_000
CASES: dict[str, msgspec.Struct] = {
    "segment-readings-1": SegmentReadings((SegmentReading("pump-1", UTC_NS, b"7.5"), SegmentReading("p", 0, b""))),
    "onward-readings-1": OnwardReadings((OnwardReading("pump-1", 42, "plant", "level", UTC_NS, b"7.5", True),)),
    "onward-sealed-1": OnwardSealed("00" * 16, bytes(range(40))),
    "segment-ask-1": SegmentAsk("plant", ("level", "flow")),
    "segment-granted-1": SegmentGranted(("level",), (("flow", "no_rule"),), 3600.0),
    "segment-quit-1": SegmentQuit("plant"),
    "segment-key-1": SegmentKey("plant", 7, (ChannelSecret("level", bytes(range(32))),)),
    "segment-key-1-shut-out": SegmentKey("plant", 0, (), "quarantined"),
    "segment-heard-1": SegmentHeard(),
    "command-ask-1": CommandAsk("valve-1", "open", b"90", "shift-7", 5.0),
    "command-1": CommandView("valve-1", "open", "0011223344556677", "done", "90 %", 1.5, repeated=True),
}


@pytest.mark.parametrize("name", CASES)
def test_golden_files_are_read_and_written_as_ever(name: str) -> None:
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert msgspec.msgpack.decode(golden, type=type(CASES[name])) == CASES[name]
    assert msgspec.msgpack.encode(CASES[name]) == golden


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.bin")} == set(CASES)


def test_secrets_are_not_shown() -> None:
    assert "ChannelSecret('level')" in repr(CASES["segment-key-1"])
    assert "\\x01\\x02" not in repr(CASES["segment-key-1"])
