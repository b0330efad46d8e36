from __future__ import annotations

import socket
from pathlib import Path

from qedge.client.paths import find_socket, socket_candidates


def test_a_named_socket_is_the_only_one() -> None:
    assert socket_candidates({"QEDGE_SOCKET": "/a/b.sock", "HOME": "/home/x"}) == (Path("/a/b.sock"),)


def test_the_users_own_daemon_comes_before_the_systems() -> None:
    places = socket_candidates({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/x"})
    assert places[0] == Path("/run/user/7/qedge/qedge.sock")
    assert Path("/home/x/.local/state/qedge/run/qedge.sock") in places
    assert places[-1] == Path("/run/qedge/qedge.sock")


def test_a_socket_that_is_there_wins(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "qedge" / "run"
    folder.mkdir(parents=True)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "XDG_STATE_HOME": str(tmp_path / "state")}
    assert find_socket(environ) == tmp_path / "runtime" / "qedge" / "qedge.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "qedge.sock"))
        assert find_socket(environ) == folder / "qedge.sock"
