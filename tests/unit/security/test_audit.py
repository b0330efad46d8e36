"""The audit log: chained, signed, bounded, and honest about what it could not write."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.crypto.keys import generate
from qedge.security.audit.files import TrailFiles, check_trail, list_files
from qedge.security.audit.log import AuditLog, verify_folder
from qedge.security.audit.pending import MOST_EACH
from qedge.security.audit.row import START, open_line, seal
from qedge.security.config import AuditConfig
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.wire.audit import AuditKind, AuditRow, AuditTrail

KEY = generate("ml-dsa-65", bytes)
OTHER = generate("ml-dsa-65", lambda number: bytes([1] * number))
NO = Decision(False, Reason.NO_RULE)
METER = Subject(
    "meter-1",
    SubjectKind.DEVICE,
    "meter",
    frozenset({"east"}),
    {"floor": "2", "api_token": "hunter2"},
    "plant",
    "hall",
    frozenset({"signed"}),
    trust=40,
)


def channel(name: str) -> Resource:
    return Resource(ResourceKind.SEGMENT, name, "plant")


@asynccontextmanager
async def log(folder: Path, clock: ManualClock | None = None, **settings: int) -> AsyncIterator[AuditLog]:
    """An audit log that runs."""
    made = AuditLog(folder, AuditConfig(**settings), KEY, clock=clock or ManualClock(), metrics=Metrics())
    await made.open()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()


def trail(folder: Path, *, max_bytes: int = 1 << 20, max_files: int = 4) -> TrailFiles:
    return TrailFiles(folder, AuditTrail.ACTS, KEY, max_bytes=max_bytes, max_files=max_files, utc_ns=1)


def act(number: int) -> AuditRow:
    return AuditRow(0, number, AuditKind.ACT, START, subject=f"d{number}", action="quarantine")


def faults(folder: Path) -> tuple[str, ...]:
    return check_trail(folder, AuditTrail.ACTS).report().faults


def filled(folder: Path, rows: int = 100) -> list[Path]:
    """Write a trail over several files, vouched for at the end."""
    files = trail(folder, max_bytes=12_000, max_files=100)
    for number in range(rows):
        files.append([act(number)])
        files.turn(number)
    files.checkpoint(rows)
    files.close()
    assert faults(folder) == ()
    return list_files(folder, AuditTrail.ACTS)


async def test_a_privileged_act_is_on_the_disk_when_it_is_answered(tmp_path: Path) -> None:
    async with log(tmp_path) as made:
        await made.keep(subject="meter-1", action="release", actor="uid:0", note="checked")
        text = (tmp_path / "acts-000000000001.jsonl").read_text()
    row = json.loads(text.splitlines()[0])
    assert (row["sequence"], row["kind"], row["subject"], row["actor"]) == (1, "act", "meter-1", "uid:0")
    assert row["facts"] == {"note": "checked"}
    assert row["previous"] == "0" * 64
    assert len(row["hash"]) == 64


async def test_a_denial_holds_all_that_deciding_it_again_needs(tmp_path: Path) -> None:
    clock = ManualClock()
    async with log(tmp_path, clock) as made:
        made.deny(METER, Action.PUBLISH, channel("heat"), Decision(False, Reason.TRUST, "readings"))
        made.deny(None, Action.CONNECT, Resource(ResourceKind.NODE), Decision(False, Reason.UNKNOWN))
        await made.flush()
        known, unknown = await made.rows(AuditTrail.DENIALS, 10)
    assert (known.resource, known.decision, known.rule) == ("segment:plant/heat", "trust", "readings")
    request = known.request
    assert request is not None
    assert request.subject is not None
    subject = request.subject
    assert (subject.id, subject.kind, subject.device_class, subject.groups) == ("meter-1", "device", "meter", ("east",))
    assert (subject.segment, subject.location, subject.posture, subject.trust) == ("plant", "hall", ("signed",), 40)
    assert subject.attributes == {"floor": "2", "api_token": "[scrubbed]"}
    assert (request.action, request.resource.name, request.utc_ns) == ("publish", "heat", clock.utc_ns())
    assert unknown.request is not None
    assert unknown.request.subject is None


async def test_the_same_denials_are_one_row_with_a_count_and_none_crowds_out_others(tmp_path: Path) -> None:
    quiet = Subject("quiet", SubjectKind.DEVICE)
    async with log(tmp_path, queue=16) as made:
        for number in range(1000):
            made.deny(METER, Action.PUBLISH, channel("heat"), NO)
            made.deny(METER, Action.PUBLISH, channel(f"probe-{number}"), NO)
        made.deny(quiet, Action.PUBLISH, channel("heat"), NO)
        for number in range(100):
            made.deny(Subject(f"d{number}", SubjectKind.DEVICE), Action.PUBLISH, channel("heat"), NO)
        await made.flush()
        rows = await made.rows(AuditTrail.DENIALS, 100)
    mine = [row for row in rows if row.subject == "meter-1"]
    assert len(mine) == MOST_EACH + 1
    assert mine[0].count == 1000
    assert sum(row.count for row in mine) == 2000
    assert [row.count for row in rows if row.subject == "quiet"] == [1]
    assert [row.kind for row in rows if row.kind is AuditKind.GAP] == [AuditKind.GAP]
    assert sum(row.count for row in rows) == 2101


async def test_denials_come_to_the_disk_by_themselves(tmp_path: Path) -> None:
    async with log(tmp_path, commit_ms=10) as made:
        made.deny(METER, Action.PUBLISH, channel("heat"), NO)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if (tmp_path / "denials-000000000001.jsonl").stat().st_size:
                break
        assert len((tmp_path / "denials-000000000001.jsonl").read_text().splitlines()) == 1


def test_files_turn_at_their_size_the_oldest_goes_and_what_is_left_is_proven(tmp_path: Path) -> None:
    files = trail(tmp_path, max_bytes=12_000, max_files=3)
    for number in range(200):
        files.append([act(number)])
        files.turn(number)
    files.close()
    report = check_trail(tmp_path, AuditTrail.ACTS).report()
    assert report.faults == ()
    assert report.files == 3
    assert report.first_sequence > 1
    first = json.loads(list_files(tmp_path, AuditTrail.ACTS)[0].read_text().splitlines()[0])
    assert first["kind"] == "checkpoint"
    assert first["checkpoint"]["sequence"] == report.first_sequence - 1
    assert report.key_ids == (KEY.key_id,)


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(4):
        files = trail(tmp_path)
        files.append([act(number)])
        files.close()
    report = check_trail(tmp_path, AuditTrail.ACTS).report()
    assert (report.faults, report.rows, report.last_sequence) == ((), 4, 4)


def test_a_row_cut_off_by_a_crash_is_removed_and_that_is_written_down(tmp_path: Path) -> None:
    files = trail(tmp_path)
    files.append([act(1), act(2)])
    files.close()
    with list_files(tmp_path, AuditTrail.ACTS)[0].open("ab") as file:
        file.write(b'{"sequence":3,"utc_ns')
    files = trail(tmp_path)
    files.close()
    report = check_trail(tmp_path, AuditTrail.ACTS).report()
    assert (report.faults, report.rows) == ((), 3)
    last = json.loads(list_files(tmp_path, AuditTrail.ACTS)[0].read_text().splitlines()[-1])
    assert (last["kind"], last["facts"]) == ("recovered", {"bytes_cut_off": 21})


def test_a_crash_between_a_new_file_and_its_first_row_leaves_no_hole(tmp_path: Path) -> None:
    files = trail(tmp_path)
    files.append([act(1)])
    files.close()
    (tmp_path / "acts-000000000002.jsonl").touch()
    files = trail(tmp_path)
    files.append([act(2)])
    files.close()
    assert faults(tmp_path) == ()
    (tmp_path / "acts-000000000001.jsonl").unlink()
    assert faults(tmp_path) == ()


def change_a_word(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"quarantine", b"throttle--"), *lines[3:]]


def remake_a_row(lines: list[bytes]) -> list[bytes]:
    """Alter a row and give it the hash that it then has."""
    row = open_line(lines[2][:-1])
    return [*lines[:2], seal(msgspec.structs.replace(row, action="other", hash=""))[0], *lines[3:]]


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "altered": (change_a_word, "was altered"),
    "made anew": (remake_a_row, "does not follow"),
    "removed": (lambda lines: [*lines[:2], *lines[3:]], "does not follow"),
    "doubled": (lambda lines: [*lines[:3], lines[2], *lines[3:]], "does not follow"),
    "moved": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "does not follow"),
    "no row": (lambda lines: [*lines[:2], b"{}\n", *lines[2:]], "is no row"),
    "cut off": (lambda lines: [*lines[:-1], lines[-1][:-9]], "is cut off"),
    "beheaded": (lambda lines: lines[1:], "does not follow"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_whatever_is_changed_in_the_middle_of_a_trail_is_found(tmp_path: Path, name: str) -> None:
    files = filled(tmp_path)
    tamper, expected = TAMPERING[name]
    files[1].write_bytes(b"".join(tamper(files[1].read_bytes().splitlines(keepends=True))))
    assert any(expected in fault for fault in faults(tmp_path)), faults(tmp_path)


def test_a_chain_that_was_made_anew_is_found_by_the_checkpoints(tmp_path: Path) -> None:
    files = filled(tmp_path)
    kept = json.loads((tmp_path / "acts.checkpoint.json").read_text())
    for path in files:
        path.unlink()
    forged = trail(tmp_path)
    forged.append([act(1000 + number) for number in range(kept["sequence"])])
    forged.close()
    assert any("another row" in fault for fault in faults(tmp_path))


def test_rows_cut_off_the_end_are_missed_up_to_the_last_checkpoint(tmp_path: Path) -> None:
    files = filled(tmp_path)
    last = files[-1].read_bytes().splitlines(keepends=True)
    files[-1].write_bytes(b"".join(last[:-2]))
    assert any("are missing at the end" in fault for fault in faults(tmp_path))
    files[-1].unlink()
    assert any("are missing at the end" in fault for fault in faults(tmp_path))
    (tmp_path / "acts.checkpoint.json").unlink()
    assert any("checkpoint.json is missing" in fault for fault in faults(tmp_path))


async def test_the_database_knows_a_checkpoint_that_was_taken_from_the_folder(tmp_path: Path) -> None:
    kept = []
    async with log(tmp_path) as made:
        made.on_checkpoint = kept.append
        await made.keep(action="one")
        await made.keep(action="two")
    for path in tmp_path.iterdir():
        path.unlink()
    made = AuditLog(tmp_path, AuditConfig(), KEY, clock=ManualClock(), metrics=Metrics())
    made.kept = {checkpoint.trail: checkpoint for checkpoint in kept}
    await made.open()
    report = await made.verify()
    await made.close()
    assert any("database" in fault for fault in report.trails[0].faults)
    # and it stays to be seen once the database has a newer one
    assert any("says that rows were missing" in fault for fault in faults(tmp_path))


def test_a_checkpoint_of_another_key_shows(tmp_path: Path) -> None:
    made = TrailFiles(tmp_path, AuditTrail.ACTS, OTHER, max_bytes=1 << 20, max_files=4, utc_ns=1)
    made.append([act(1)])
    made.checkpoint(1)
    made.close()
    report = verify_folder(tmp_path, KEY.key_id, {}, {})
    assert report.trails[0].key_ids == (OTHER.key_id,)
    assert not report.ok
    # a node with a new identity vouches for what its old key had signed
    trail(tmp_path).close()
    assert verify_folder(tmp_path, KEY.key_id, {}, {}).ok


@pytest.mark.parametrize("field", ["signature", "key_id", "sequence"])
def test_a_checkpoint_that_was_touched_is_not_believed(tmp_path: Path, field: str) -> None:
    filled(tmp_path)
    path = tmp_path / "acts.checkpoint.json"
    checkpoint = json.loads(path.read_text())
    checkpoint[field] = checkpoint[field] - 1 if field == "sequence" else "AAAA" + checkpoint[field][4:]
    path.write_text(json.dumps(checkpoint))
    assert any("checkpoint.json" in fault for fault in faults(tmp_path))


async def test_a_full_disk_refuses_privileged_acts_and_loses_none_of_the_nodes_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log(tmp_path) as made:
        await made.keep(action="before")

        def full(_fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", full)
            with pytest.raises(QedgeError, match="cannot be written") as refused:
                await made.keep(action="refused")
            made.record(AuditKind.RESPONSE, action="contained")
            made.deny(METER, Action.PUBLISH, channel("heat"), NO)
            await made.flush()
        assert refused.value.code == "audit.unavailable"
        await made.keep(action="after")
        acts = [row.action for row in await made.rows(AuditTrail.ACTS, 10)]
        assert acts == ["before", "contained", "after"]
        (gap,) = await made.rows(AuditTrail.DENIALS, 10)
        assert (gap.kind, gap.count) == (AuditKind.GAP, 1)
        assert (await made.verify()).ok


async def test_verification_while_the_log_is_written_finds_no_fault(tmp_path: Path) -> None:
    async with log(tmp_path) as made:

        async def write() -> None:
            for number in range(200):
                await made.keep(action=f"act-{number}")

        writing = asyncio.create_task(write())
        while not writing.done():
            report = await made.verify()
            assert report.ok, report
        assert (await made.verify()).trails[0].last_sequence == 200


async def test_checkpoints_are_made_when_they_are_due(tmp_path: Path) -> None:
    clock = ManualClock()
    async with log(tmp_path, clock, checkpoint_s=60) as made:
        await made.keep(action="one")
        clock.advance_s(61)
        await made.keep(action="two")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if made.kept:
                break
        assert made.kept[AuditTrail.ACTS].sequence in (1, 2)
