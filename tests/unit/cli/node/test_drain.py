"""`qedge drain` says whether the node takes jobs, and with `--wait` returns when it has none left."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

import pytest

from qedge.cli.node import drain
from qedge.wire.node import DrainView


class Node:
    """A node that is empty after a few looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.fleet = self

    async def drain(self, *, undo: bool = False) -> DrainView:
        return DrainView("open" if undo else "draining", 0 if undo else 2, 0 if undo else 1)

    async def drain_view(self) -> DrainView:
        self.looks += 1
        return DrainView("draining" if self.looks < 3 else "empty", 0, 0)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    import asyncio

    def ask(_args: object, question: Callable[[Node], Awaitable[DrainView]]) -> DrainView:
        async def put() -> DrainView:
            return await question(Node())

        return asyncio.run(put())

    parser = argparse.ArgumentParser()
    drain.add_arguments(parser)
    monkeypatch.setattr(drain, "ask", ask)
    monkeypatch.setattr(drain, "_LOOK_S", 0.0)
    assert drain.run(parser.parse_args(list(argv))) == 0
    return capsys.readouterr().out


def test_it_says_what_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys) == "draining: 2 waiting, 1 running\n"


def test_it_waits_until_the_node_is_empty(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--wait") == "the node is empty\n"


def test_it_undoes_a_drain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--undo", "--wait") == "the node takes jobs\n"
    assert '"state":"open"' in run(monkeypatch, capsys, "--undo", "--json")
