"""The folder of an operator: what is left for a program that works on a roll-out gets there."""

from __future__ import annotations

from pathlib import Path

import pytest

from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.rollout_plan import Said, Word


def test_a_word_that_is_left_while_another_is_taken_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = OperatorFolder(tmp_path)
    folder.rollout_path("r")
    folder.leave_word("r", Said(1, Word.PAUSE, "ann"))
    read = Path.read_bytes

    def read_and_be_overtaken(path: Path) -> bytes:
        data = read(path)
        monkeypatch.setattr(Path, "read_bytes", read)
        folder.leave_word("r", Said(2, Word.ABORT, "ann"))
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_be_overtaken)
    first, second = folder.take_word("r"), folder.take_word("r")
    assert [said.word for said in (first, second) if said is not None] == [Word.PAUSE, Word.ABORT]
    assert folder.take_word("r") is None
    assert list((tmp_path / "rollouts").iterdir()) == []
