"""The audit trail of an operator, and the folder that it stands in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.locked_file import LockedFile
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.rollout_plan import Said, Word
from qedge.client.fleet_tool.trail import Act, TrailEntry, check_trail

NOW = 1_800_000_000_000_000_000


def entry(node: str) -> TrailEntry:
    return TrailEntry(NOW, Act.SENT, "ann", "home", node=node, kind="drain")


def test_a_trail_grows_and_its_chain_holds(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    assert folder.trail() == ((), "")
    folder.note([entry("a"), entry("b")])
    folder.note([entry("c")])
    lines, fault = folder.trail()
    assert [(line.number, line.entry.node) for line in lines] == [(1, "a"), (2, "b"), (3, "c")]
    assert fault == ""


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda rows: [rows[0], rows[2]], "line 2"),
        (lambda rows: [rows[1], rows[0], rows[2]], "line 1"),
        (lambda rows: [rows[0], rows[1].replace(b'"b"', b'"x"'), rows[2]], "line 2"),
        (lambda rows: [rows[0], b"no json", rows[2]], "line 2"),
        (lambda rows: [rows[0], rows[0], *rows[1:]], "line 2"),
    ],
)
def test_what_is_changed_in_a_trail_is_found(tmp_path: Path, change: object, where: str) -> None:
    folder = OperatorFolder(tmp_path)
    folder.note([entry("a"), entry("b"), entry("c")])
    rows = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert callable(change)
    assert where in check_trail(b"\n".join([*change(rows), b""]))[1]


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_chain_goes_on(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    folder.note([entry("a")])
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes() + b'{"number":2,"ent')
    assert folder.trail()[1] == ""
    folder.note([entry("b")])
    lines, fault = folder.trail()
    assert ([line.entry.node for line in lines], fault) == (["a", "b"], "")


def test_nothing_is_added_behind_a_line_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b"rubbish\n")
    with pytest.raises(QedgeError) as caught:
        OperatorFolder(tmp_path).note([entry("a")])
    assert caught.value.code == "fleet.trail_damaged"


def test_no_serial_is_given_out_twice_by_several_programs_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from qedge.client.fleet_tool.operator_folder import OperatorFolder\n"
        "for _ in range(20): print(*OperatorFolder(Path(sys.argv[1])).take_serials(3, 0))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    serials = [int(word) for run in runs for word in run.communicate(timeout=60)[0].split()]
    assert len(serials) == len(set(serials)) == 120


def test_serials_go_on_from_the_clock_where_the_folder_was_restored(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    last = folder.take_serials(5, NOW)[-1]
    (tmp_path / "serial").unlink()
    assert folder.take_serials(1, NOW + 1_000_000)[0] > last
    (tmp_path / "serial").write_text("x")
    with pytest.raises(QedgeError):
        folder.take_serials(1, NOW)


def test_a_file_that_another_program_has_is_refused_at_once(tmp_path: Path) -> None:
    with LockedFile(tmp_path / "file") as first:
        first.append(b"one\n")
        with pytest.raises(QedgeError) as caught:
            LockedFile(tmp_path / "file")
        assert caught.value.code == "fleet.busy"
    with LockedFile(tmp_path / "file") as second:
        assert second.read() == b"one\n"


def test_a_word_is_taken_once(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    folder.rollout_path("x")
    assert folder.take_word("x") is None
    folder.leave_word("x", Said(NOW, Word.PAUSE, "ann"))
    assert folder.take_word("x") == Said(NOW, Word.PAUSE, "ann")
    assert folder.take_word("x") is None


def test_a_broker_file_has_the_keys_of_the_agents_section(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    assert folder.broker() is None
    (tmp_path / "broker.toml").write_text('url = "mqtt://192.0.2.1"\nusername = "ann"\n')
    config = folder.broker()
    assert config is not None
    assert (config.url, config.username) == ("mqtt://192.0.2.1", "ann")
    (tmp_path / "broker.toml").write_text('ur = "x"\n')
    with pytest.raises(QedgeError) as caught:
        folder.broker()
    assert caught.value.code == "config.invalid"
