from __future__ import annotations

import io

from qedge.cli.terminal import Terminal, clean, histogram_lines, shorten, table_lines, terminal_of


class Tty(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]  # a plain stream has it as a read-only property

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_no_colours() -> None:
    assert not terminal_of(io.StringIO(), {"TERM": "xterm"}).color
    assert terminal_of(Tty(), {"TERM": "xterm"}).color
    assert not terminal_of(Tty(), {"TERM": "xterm", "NO_COLOR": "1"}).color
    assert not terminal_of(Tty(), {"TERM": "dumb"}).color


def test_a_histogram_fits_the_width_whatever_is_counted() -> None:
    for width in (30, 60, 100):
        for bits in (1, 12, 80):
            counts = {format(key, f"0{bits}b"): 10 ** (key % 7) for key in range(40)}
            for line in histogram_lines(counts, terminal=Terminal(width=width)):
                assert len(line) <= max(width, min(40, bits)) + 32


def test_the_most_frequent_outcome_comes_first_and_the_rest_is_summed_up() -> None:
    lines = histogram_lines({"01": 1, "00": 600, "11": 399}, limit=2)
    assert lines[0].startswith("00 ")
    assert lines[0].endswith("60.00%")
    assert lines[-1] == "and 1 more outcomes with 1 shots (0.10%)"
    assert histogram_lines({}) == ["no outcomes"]


def test_every_outcome_that_happened_has_a_bar() -> None:
    for terminal in (Terminal(), Terminal(unicode=False)):
        rare = histogram_lines({"0": 1_000_000, "1": 1}, terminal=terminal)[1]
        assert any(mark in rare for mark in "▏#")


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    rows = [["\x1b[2J\x1b]0;owned\x07", "a\nb"]]
    assert "\x1b" not in "\n".join(table_lines(("A", "B"), rows))
    assert clean("a\r\nb\tc") == "a  b c"


def test_a_table_gives_way_in_its_last_column() -> None:
    lines = table_lines(("NAME", "REASON"), [("qpu", "x" * 500)], terminal=Terminal(width=40))
    assert all(len(line) <= 40 for line in lines)
    assert lines[1].endswith("…")


def test_shortened_text_keeps_both_ends() -> None:
    assert shorten("0" * 30 + "1" * 30, 11) == "00000…11111"
    assert shorten("short", 11) == "short"
