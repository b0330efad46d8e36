"""Claims about `qedge.base.layered_toml` and `qedge.base.driver_settings`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qedge.base.driver_settings import check_driver_settings
from qedge.base.layered_toml import MAX_FILE_BYTES, Layer, Origin, merge, parse_layer, read_layers
from qedge.base.settings import Fault
from qedge_driver_api import setting, settings_schema


def _fault(text: str) -> Fault:
    found = parse_layer("x.toml", text)
    assert isinstance(found, Fault)
    return found


def test_later_files_win_and_each_key_remembers_its_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("[http]\nport = 1\nhost = 'x'\nlist = [1, 2]\n")
    second.write_text("\n[http]\nport = 2\nlist = [3]\n")
    read = read_layers([first, second])
    assert read.values == {"http": {"port": 2, "host": "x", "list": [3]}}
    assert read.origin(("http", "port")) == Origin(str(second), 3)
    assert read.origin(("http", "host")) == Origin(str(first), 3)
    assert read.origin(("http", "page")) is None
    assert read.nearest_origin(("http", "page")) == Origin(str(second), 2)


def test_merging_replaces_what_is_no_table() -> None:
    assert merge({"a": {"b": 1}, "c": 1}, {"a": 5, "c": {"d": 1}}) == {"a": 5, "c": {"d": 1}}


def test_a_syntax_error_has_line_and_column() -> None:
    fault = _fault("a = 1\nb = = 2\n")
    assert (fault.file, fault.line, fault.column) == ("x.toml", 2, 5)


def test_files_beyond_the_limits_are_faults(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = 1\nb = '\xe4'\n")
    good = tmp_path / "good.toml"
    good.write_text("a = 1\n")
    read = read_layers([large, tmp_path / "absent.toml", latin, good])
    assert [fault.problem for fault in read.faults] == [
        "is too large",
        "cannot be read (No such file or directory)",
        "is not UTF-8",
    ]
    assert read.faults[2].line == 2
    assert read.values == {"a": 1}


def test_hostile_nesting_and_numbers_are_faults_not_crashes() -> None:
    assert "nested" in _fault("a = " + "[" * 5000 + "]" * 5000).problem
    assert "nested" in _fault("a = " + "[" * 60 + "]" * 60).problem
    assert _fault("a = " + "9" * 10_000).problem
    assert _fault("a = " + "{b=" * 5000).problem


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert isinstance(parse_layer("x", "a = 1"), Layer)
    assert read_layers([file]).values == {"a": 1}


@dataclass(frozen=True)
class Settings:
    """Settings of a driver."""

    device: str = setting(description="Which.")
    length_km: float = setting(25.0, description="How long.", unit="km", minimum=0, maximum=200)
    role: str = setting("alice", description="Which end.", choices=("alice", "bob"))


def test_driver_settings_are_checked_against_what_the_driver_describes() -> None:
    values = {"length_km": 500, "role": "eve", "lenght_km": 1}
    faults = list(check_driver_settings(settings_schema(Settings), values, ("drivers", "x", "settings")))
    assert {fault.key: (fault.problem, fault.expected) for fault in faults} == {
        "drivers.x.settings.length_km": ("is 500", "float (km), 0 to 200"),
        "drivers.x.settings.role": ('is "eve"', 'one of "alice", "bob"'),
        "drivers.x.settings.lenght_km": ("unknown key", "'length_km', the nearest known key"),
        "drivers.x.settings.device": ("missing key", "str"),
    }
