"""The private broker: which program, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.bus import child_broker
from qedge.bus.child_broker import ChildBroker
from qedge.bus.config import BusConfig


def make(folder: Path, kind: str = "auto") -> ChildBroker:
    config = BusConfig(kind=kind)  # type: ignore[arg-type] # the test parametrises it
    return ChildBroker(
        config, folder, password="hush", clock=ManualClock(), random_bytes=os.urandom, uniform=lambda: 0.0
    )


def write_program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> Path:
    program = folder / name
    program.write_text(text)
    program.chmod(0o755)
    return program


def test_mosquitto_is_taken_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_program(tmp_path, "mosquitto")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make(tmp_path)._choose() == ("mosquitto", str(program))
    assert make(tmp_path, "iotcore")._choose() == ("iotcore", sys.executable)


def test_without_mosquitto_the_broker_of_the_wheel_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(child_broker, "_SEARCH", ())
    assert make(tmp_path)._choose()[0] == "iotcore"
    with pytest.raises(QedgeError) as error:
        make(tmp_path, "mosquitto")._choose()
    assert error.value.code == "bus.no_broker"
    assert error.value.fix


def test_mosquitto_gets_one_loopback_listener_and_a_hashed_password_in_private_files(tmp_path: Path) -> None:
    command = child_broker._write_mosquitto(
        tmp_path, "/usr/sbin/mosquitto", ["127.0.0.1:4711"], "hush", b"salt of 12 b"
    )
    lines = Path(command[-1]).read_text().splitlines()
    assert "listener 4711 127.0.0.1" in lines
    assert "allow_anonymous false" in lines
    assert "set_tcp_nodelay true" in lines
    users = (tmp_path / "broker.users").read_text()
    assert "hush" not in users
    _, kind, rounds, salt, digest = users.strip().split("$")
    expected = hashlib.pbkdf2_hmac("sha512", b"hush", base64.b64decode(salt), int(rounds))
    assert kind == "7"
    assert base64.b64decode(digest) == expected
    for name in ("broker.conf", "broker.users"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "hush" not in " ".join(command)


def test_the_broker_of_the_wheel_gets_one_loopback_listener_with_a_password(tmp_path: Path) -> None:
    command = child_broker._write_iotcore(tmp_path, sys.executable, ["127.0.0.1:4711"], "hush", b"")
    settings = tomllib.loads(Path(command[-1]).read_text())
    assert list(settings) == ["id", "router", "v5"]
    (listener,) = settings["v5"].values()
    assert listener["listen"] == "127.0.0.1:4711"
    assert listener["connections"]["auth"] == {"qedge": "hush"}
    assert stat.S_IMODE((tmp_path / "broker.toml").stat().st_mode) == 0o600
    assert "hush" not in " ".join(command)


def test_a_file_that_someone_left_is_replaced_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "broker.toml").symlink_to(target)
    child_broker._write_iotcore(tmp_path, sys.executable, ["127.0.0.1:4711"], "hush", b"")
    assert not target.exists()


async def test_a_broker_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path, "mosquitto", "#!/bin/sh\necho 'Error: no such option' >&2\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    broker = make(tmp_path / "run", "mosquitto")
    with pytest.raises(QedgeError, match=r"code 3: Error: no such option") as error:
        await broker.run(lambda: None)
    assert error.value.code == "bus.no_broker"
    assert broker.endpoint() is None
    assert list((tmp_path / "run").iterdir()) == []


async def test_another_program_on_the_port_is_never_taken_for_the_broker(tmp_path: Path) -> None:
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        port = thief.getsockname()[1]
        assert child_broker._listens(os.getpid(), port)
        sleeper = await asyncio.create_subprocess_exec("sleep", "60")
        try:
            assert not child_broker._listens(sleeper.pid, port)
        finally:
            sleeper.kill()
            await sleeper.wait()
    assert not child_broker._listens(sleeper.pid, port)


async def test_what_a_broker_of_the_other_kind_was_told_before_the_node_was_killed_is_gone_when_this_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path, "mosquitto", "#!/bin/sh\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    left = tmp_path / "broker.toml"
    left.write_text('qedge = "hush"')
    seen: list[bool] = []
    write = child_broker._write_mosquitto

    def look(*args: object) -> list[str]:
        seen.append(left.exists())
        return write(*args)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(child_broker, "_write_mosquitto", look)
    with pytest.raises(QedgeError):
        await make(tmp_path, "mosquitto").run(lambda: None)
    assert seen == [False]
