"""What is missing is said in one line with its fix."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.node import preflight


def _code(error: pytest.ExceptionInfo[QedgeError]) -> str:
    assert error.value.fix
    assert "\n" not in str(error.value)
    return error.value.code


def test_an_old_python_is_named_with_the_version_it_takes() -> None:
    preflight.check_python((3, 11))
    with pytest.raises(QedgeError) as error:
        preflight.check_python((3, 9))
    assert _code(error) == "start.python_too_old"


def test_a_directory_is_made_private_and_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    preflight.prepare_directory(tmp_path / "a" / "b", "node.state_dir")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(QedgeError) as error:
        preflight.prepare_directory(tmp_path / "file" / "x", "node.state_dir")
    assert _code(error) == "start.no_permission"


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    preflight.check_disk(tmp_path, 1)
    with pytest.raises(QedgeError) as error:
        preflight.check_disk(tmp_path, 2**62)
    assert _code(error) == "start.disk_low"


def test_a_socket_path_that_the_kernel_would_cut_is_refused() -> None:
    preflight.check_socket_path(Path("/run/qedge/qedge.sock"))
    with pytest.raises(QedgeError) as error:
        preflight.check_socket_path(Path("/" + "x" * 120))
    assert _code(error) == "start.path_too_long"


def test_a_taken_port_is_named_and_a_free_one_passes() -> None:
    preflight.check_port("127.0.0.1", 0, "http.port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(QedgeError) as error:
            preflight.check_port("127.0.0.1", port, "http.port")
        assert _code(error) == "start.port_taken"
        assert error.value.details["port"] == port
    preflight.check_port("127.0.0.1", port, "http.port")
