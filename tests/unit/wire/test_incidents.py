"""Boards of incidents and rows of the audit log: what was written once stays readable."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.security.audit.row import open_line, seal
from qedge.wire.audit import AskedResource, AskedSubject, AuditKind, AuditRow, DeniedRequest
from qedge.wire.incidents import MAX_BOARD, BoardEntry, IncidentBoard

GOLDEN = Path(__file__).parent / "golden_incidents"
ENTRY = BoardEntry("01890000-0000-7000-8000-000000000001", "pump-7", "flooding", "contained", "quarantine", 0.75, 17)
BOARD = IncidentBoard("box-1", 12, (ENTRY,))
ROW = AuditRow(
    5,
    1_800_000_000_000_000_000,
    AuditKind.DENIAL,
    "1" * 64,
    subject="pump-7",
    action="publish",
    resource="segment:plant/heat",
    decision="trust",
    rule="readings",
    count=3,
    request=DeniedRequest(
        1_800_000_000_000_000_000,
        7,
        "publish",
        AskedResource("segment", "heat", "plant"),
        False,
        "trust",
        "readings",
        AskedSubject("pump-7", "device", "pump", ("east",), {"floor": "2"}, "plant", "hall", ("signed",), 40),
    ),
)


def test_a_board_is_read_and_written_as_ever() -> None:
    golden = (GOLDEN / "incident-board-1.bin").read_bytes()
    assert msgspec.msgpack.decode(golden, type=IncidentBoard) == BOARD
    assert msgspec.msgpack.encode(BOARD) == golden


def test_a_row_of_the_audit_log_is_read_and_written_as_ever() -> None:
    golden = (GOLDEN / "audit-row.jsonl").read_bytes()
    row = open_line(golden[:-1])
    assert msgspec.structs.replace(row, hash="") == ROW
    assert seal(ROW) == (golden, row.hash)
    assert b'"request":{"type":"recorded-request/1",' in golden


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"device": "a/b"}, {"severity": 1.5}, {"evidence": "x" * 49}, {"opened_utc_ns": -1}],
)
def test_a_board_with_an_impossible_entry_is_refused(change: dict[str, object]) -> None:
    entry = msgspec.to_builtins(ENTRY) | change
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "incident-board/1", "node": "b", "serial": 1, "entries": [entry]}, IncidentBoard)


def test_a_board_has_room_for_so_many_incidents_and_fits_an_envelope() -> None:
    full = IncidentBoard("box-1", 1, (ENTRY,) * MAX_BOARD)
    assert len(msgspec.msgpack.encode(full)) < 128 * 1024
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode(IncidentBoard("b", 1, (ENTRY,) * (MAX_BOARD + 1))), type=IncidentBoard
        )
