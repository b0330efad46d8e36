from __future__ import annotations

import argparse
import builtins
import functools
import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.links import links
from qedge.cli.links.plan import block_of, distances_of, of_bits
from qedge.cli.links.plot import plot_lines
from qedge.cli.terminal import Terminal
from qedge.qkd.planning.channel import RECEIVERS
from qedge.qkd.planning.plan import LinkDesign, PlanPoint, plan


@functools.cache
def some_plan() -> list[PlanPoint]:
    return plan(LinkDesign(RECEIVERS["ingaas"], 1 << 22), [0.0, 75.0, 150.0])


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    links.add_arguments(parser)
    return links.run(parser.parse_args(["plan", *argv]))


def test_distances_are_a_range_or_a_list() -> None:
    assert distances_of("0:20:5") == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert distances_of("0:0.3:0.1") == [0.0, 0.1, 0.2, 0.3]
    assert distances_of("25") == [25.0]
    assert distances_of("50,10") == [10.0, 50.0]
    for bad in ("", "a", "0:10", "10:0:1", "0:10:0", "0:10:-1", "0:1e9:1", "-5", "nan", "0:nan:1", "1,,2"):
        with pytest.raises(QedgeError, match="kilometres"):
            distances_of(bad)


def test_blocks_are_numbers_or_powers() -> None:
    assert [block_of(text) for text in ("2^22", "4e6", "1048576", "10^7")] == [1 << 22, 4_000_000, 1 << 20, 10**7]
    for bad in ("", "2^", "^2", "12", "2^80", "-4e6", "nan", "inf", "2^-3", "1e3000", "9^99999999"):
        with pytest.raises(QedgeError, match="2\\^22"):
            block_of(bad)


def test_numbers_of_bits_have_units() -> None:
    numbers = (0.5, 999, 999_700, 12_345_678, 2.5e9)
    assert [of_bits(number) for number in numbers] == ["0.5 bit", "999 bit", "1 Mbit", "12.3 Mbit", "2.5 Gbit"]


def test_a_plan_shows_rates_and_why_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--distance", "0:200:100", "--detector", "ingaas") == 0
    shown = capsys.readouterr().out
    assert "PLOB" in shown
    assert "blocks of 2^22 bits" in shown
    assert "No key at 200 km: " in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_json_has_every_setting_and_marks_what_is_never_delivered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--distance", "25", "--block", "2^20", "--efficiency", "0.6", "--max-counts", "2e7", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["receiver"]["efficiency"] == 0.6
    assert said["receiver"]["max_counts_per_s"] == 2e7
    assert said["epsilon"]["total"] == 1e-10
    [point] = said["points"]
    assert 0 < point["secret_bits_per_s"] < point["sifted_bits_per_s"] < 2e7
    assert point["secret_bits_per_s"] < point["asymptotic_bits_per_s_not_delivered"] < point["plob_bound_bits_per_s"]
    assert sum(point["intensity_probabilities"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["--epsilon", "0"], "epsilon"),
        (["--epsilon", "nan"], "epsilon"),
        (["--reconciliation", "0.9"], "econciliation"),
        (["--clock", "0"], "clock"),
        (["--efficiency", "2"], "fficiency"),
        (["--dark-counts", "nan"], "ark counts"),
        (["--dead-time", "-1"], "ead time"),
        (["--plot", "rates.gif"], "svg"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(argv: list[str], names: str) -> None:
    with pytest.raises(QedgeError, match=names) as wrong:
        run("--distance", "10", *argv)
    assert wrong.value.code == "client.usage"
    assert wrong.value.fix


def test_pictures_show_both_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    svg = tmp_path / "rates.svg"
    assert run("--distance", "0:150:50", "--detector", "ingaas", "--plot", str(svg)) == 0
    capsys.readouterr()
    words = " ".join(ET.parse(svg).getroot().itertext())  # noqa: S314 - our own file
    for label in ("secret key, finite blocks", "PLOB bound", "never delivered", "bit per second", "fibre, km", "2^22"):
        assert label in words


def test_every_plan_of_the_guide_works_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "run-a-qkd-link.md").read_text("utf-8")
    answers = []
    for command in re.findall(r"^```sh\n(qedge link plan [^\n]*)\n```$", guide, re.MULTILINE):
        assert run(*shlex.split(command)[3:]) == 0
        answers.append(capsys.readouterr().out)
    table, given, short, long, _, said = answers
    assert len(re.findall(r"^\d+ +\d+\.0 .* 0\.\d\d$", table, re.MULTILINE)) == 16
    assert "50  10.0" in given
    shares = [re.search(r"^50 .* (\d\.\d\d) Mbit .* Mbit ", each, re.MULTILINE) for each in (short, long)]
    assert shares[0] is not None
    assert shares[1] is not None
    assert float(shares[0][1]) < float(shares[1][1])
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert json.loads(said)["points"][0]["key_bits"] > 1_000_000


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(QedgeError) as wrong:
        run("--distance", "10", "--plot", str(tmp_path / "no" / "rates.svg"))
    assert wrong.value.code == "client.file"


def test_without_matplotlib_a_picture_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def missing(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the name that Python gives
        locals: Mapping[str, object] | None = None,  # noqa: A002 - as above
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, globals, locals, fromlist or (), level)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(QedgeError, match="matplotlib") as wrong:
        run("--distance", "10", "--plot", str(tmp_path / "rates.svg"))
    assert "qedge[plot]" in wrong.value.fix


@pytest.mark.parametrize("unicode", [True, False])
def test_the_plot_of_the_terminal_keeps_key_below_the_bound(unicode: bool) -> None:
    points = some_plan()
    lines = plot_lines(points, Terminal(unicode=unicode, width=80))
    assert all(len(line) <= 80 for line in lines)
    if not unicode:
        assert all(line.isascii() for line in lines)
        rows = [(line.find("."), line.find("*")) for line in lines[1:-2]]
        assert min(i for i, (dot, _) in enumerate(rows) if dot >= 0) < min(i for i, (_, s) in enumerate(rows) if s >= 0)
    assert "0 km" in lines[-1]
    assert "150 km" in lines[-1]


def test_a_plan_without_any_key_is_drawn_too() -> None:
    points = plan(LinkDesign(RECEIVERS["ingaas"], 1 << 22), [300.0, 350.0, 400.0])
    assert "secret" in plot_lines(points, Terminal())[0]
