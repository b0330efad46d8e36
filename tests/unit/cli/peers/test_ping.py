"""`qedge ping` says how long, how much and which way."""

from __future__ import annotations

import argparse

import pytest

from qedge.cli.peers import ping
from qedge.wire.node import PingView


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], view: PingView, *argv: str) -> str:
    parser = argparse.ArgumentParser()
    ping.add_arguments(parser)
    monkeypatch.setattr(ping, "ask", lambda _args, _ask: view)
    assert ping.run(parser.parse_args(["far", *argv])) == 0
    return capsys.readouterr().out


def test_each_round_trip_is_told_with_its_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(monkeypatch, capsys, PingView("far", (1.0, 3.0), path="mqtt"))
    assert out.splitlines()[:2] == ["far: 1.00 ms over mqtt", "far: 3.00 ms over mqtt"]
    assert "Mbit/s" not in out


def test_a_size_tells_the_throughput_of_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = PingView("far", (1.0,) * 4, size_bytes=1_000_000, elapsed_s=0.5, path="direct")
    assert "64.0 Mbit/s to far" in run(monkeypatch, capsys, view, "--size", "1000000", "--parallel", "2")


def test_json_carries_what_was_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(monkeypatch, capsys, PingView("far", (1.0,), size_bytes=8, elapsed_s=0.5, path="direct"), "--json")
    assert '"path"' in out
    assert '"elapsed_s"' in out
