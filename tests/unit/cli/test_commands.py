from __future__ import annotations

import argparse
import io
import stat
import sys
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.drivers import draw, drivers
from qedge.cli.fleet import enrol, fleet, join
from qedge.cli.jobs import decode, jobs, submit
from qedge.cli.keys import keys, qkd
from qedge.cli.links import links
from qedge.cli.node import events, open_page, status
from qedge.cli.peers import peers, ping
from qedge.cli.security import crypto, policy
from qedge.cli.top import top

COMMANDS = [
    status,
    submit,
    decode,
    jobs,
    draw,
    open_page,
    ping,
    drivers,
    links,
    fleet,
    join,
    enrol,
    peers,
    crypto,
    keys,
    qkd,
    policy,
    top,
    events,
]


def parse(module: object, *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]  # a command module
    return parser.parse_args(argv)


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.NAME)
def test_every_command_tells_what_it_does(module: object) -> None:
    assert module.NAME.isalpha()  # type: ignore[attr-defined]  # a command module
    assert module.SUMMARY.endswith(".")  # type: ignore[attr-defined]  # as above


def test_settings_are_read_as_in_the_configuration() -> None:
    assert drivers.parse_settings(
        ["a=true", "b=0.5", "c=7", "d=text", 'e="7"', "f=[1, 2]", "g=", "h=a=b", "i=1\nj=2"]
    ) == {
        "a": True,
        "b": 0.5,
        "c": 7,
        "d": "text",
        "e": "7",
        "f": [1, 2],
        "g": "",
        "h": "a=b",
        "i": "1\nj=2",
    }
    for bad in ("novalue", "=1"):
        with pytest.raises(QedgeError) as wrong:
            drivers.parse_settings([bad])
        assert wrong.value.code == "client.usage"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as missing:
        submit.read_program(str(tmp_path / "none.qasm"))
    assert missing.value.code == "client.file"
    (tmp_path / "binary.qasm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QedgeError) as binary:
        submit.read_program(str(tmp_path / "binary.qasm"))
    assert binary.value.code == "circuit.syntax"


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"OPENQASM 2.0;")))
    assert submit.read_program("-") == "OPENQASM 2.0;"


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "-1"),
        ("--deadline", "0"),
        ("--qpu", "x" * 37),
        ("--deadline", "nan"),
        ("--set", "a"),
        ("--set", "a=x"),
        ("--set", "a=nan"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_sent(options: tuple[str, ...]) -> None:
    with pytest.raises(QedgeError) as wrong:
        submit.make_submission(parse(submit, "file.qasm", *options), "")
    assert wrong.value.code == "client.usage"


def test_a_page_link_is_handed_to_the_browser_in_a_private_file(tmp_path: Path) -> None:
    url = 'http://127.0.0.1:8000/#link=to"ken'
    for environ in ({"XDG_RUNTIME_DIR": str(tmp_path / "run")}, {"HOME": str(tmp_path / "home")}):
        path = open_page.write_redirect(url, environ)
        again = open_page.write_redirect(url, environ)
        assert path == again
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert 'url=http://127.0.0.1:8000/#link=to&quot;ken"' in path.read_text()


def test_no_browser_is_started_without_a_display() -> None:
    assert open_page.has_display({"DISPLAY": ":0"})
    assert not open_page.has_display({}) or sys.platform == "darwin"
