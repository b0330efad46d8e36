"""`qedge telemetry` tells what waits, what gave way and whether adapters are connected."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable

import pytest

from qedge.cli.fleet import telemetry
from qedge.cli.terminal import Terminal
from qedge.wire.telemetry import TelemetryClass, TelemetryLane, TelemetryView

VIEW = TelemetryView(
    enabled=True,
    up=False,
    spool="0123456789abcdef",
    in_memory=3,
    replaying=7,
    lanes=(TelemetryLane(TelemetryClass.READING, 28_800, 4_000_000, 86_400.0, 12, {"space": 4, "age": 1}),),
    problem="store.disk_full",
    adapters={"thin-edge": "connected"},
)


def test_it_tells_everything_that_an_operator_asks_first() -> None:
    text = "\n".join(telemetry.lines(VIEW, Terminal()))
    for part in (
        "waiting for the broker",
        "7 items that waited",
        "3 items wait in memory",
        "store.disk_full",
        "28800",
        "age 1, space 4",
        "adapter thin-edge: connected",
    ):
        assert part in text


def test_a_node_without_telemetry_says_how_to_switch_it_on() -> None:
    [line] = telemetry.lines(TelemetryView(enabled=False), Terminal())
    assert "fleet.telemetry.enabled = true" in line


def test_json_is_the_whole_view(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    class Node:
        """A node whose telemetry waits."""

        @property
        def fleet(self) -> Node:
            return self

        async def telemetry(self) -> TelemetryView:
            return VIEW

    def answer(_args: argparse.Namespace, question: Callable[[Node], Awaitable[TelemetryView]]) -> TelemetryView:
        return asyncio.run(question(Node()))  # type: ignore[arg-type] # a coroutine

    monkeypatch.setattr(telemetry, "ask", answer)
    parser = argparse.ArgumentParser()
    telemetry.add_arguments(parser)
    assert telemetry.run(parser.parse_args(["status", "--json"])) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["spool"], shown["lanes"][0]["waiting"]) == (VIEW.spool, 28_800)
