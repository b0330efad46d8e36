"""Claims about `qedge.config`: files, faults with their places, defaults of the box, and what a reload changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.folders import legal_name
from qedge.config import (
    AgentConfig,
    Change,
    LoadedConfig,
    Schemas,
    changed_sections,
    check_config,
    load,
    with_defaults,
)
from qedge_driver_api import SettingInfo

USER = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/1000"}
SERVICE = {"STATE_DIRECTORY": "/var/lib/qedge", "RUNTIME_DIRECTORY": "/run/qedge:/run/other", "HOME": "/"}


def _folder(root: Path, **files: str) -> str:
    (root / "conf.d").mkdir()
    for name, text in files.items():
        target = root / "agent.toml" if name == "agent" else root / "conf.d" / f"{name}.toml"
        target.write_text(text)
    return str(root)


def _load(path: str) -> LoadedConfig:
    return load(path, environ=USER)


def test_nothing_configured_is_a_node_with_simulated_hardware_of_each_kind(tmp_path: Path) -> None:
    config = _load(_folder(tmp_path)).config
    assert config.node.fleet == "local"
    assert {name: driver.driver for name, driver in config.drivers.items()} == {
        "qpu": "sim_qpu",
        "qrng": "sim_qrng",
        "qkd-alice": "sim_qkd",
        "qkd-bob": "sim_qkd",
    }
    assert list(config.qkd.links) == ["local"]


def test_configured_drivers_replace_the_simulated_ones(tmp_path: Path) -> None:
    config = _load(_folder(tmp_path, agent='[drivers.mine]\ndriver = "sim_qpu"\n')).config
    assert list(config.drivers) == ["mine"]
    assert config.qkd.links == {}


def test_drop_ins_are_read_in_the_order_of_their_names_and_win(tmp_path: Path) -> None:
    path = _folder(
        tmp_path, agent="[http]\nport = 1\n", b20="[http]\nport = 3\n", a10="\n[http]\nport = 2\npage = false\n"
    )
    loaded = _load(path)
    assert (loaded.config.http.port, loaded.config.http.page) == (3, False)
    assert str(loaded.origin("http", "port")) == f"{tmp_path}/conf.d/b20.toml:2"
    assert str(loaded.origin("http", "page")) == f"{tmp_path}/conf.d/a10.toml:4"
    assert loaded.origin("http", "host") is None
    assert [Path(file).name for file in loaded.files] == ["agent.toml", "a10.toml", "b20.toml"]


def test_every_fault_of_every_file_is_found_with_its_line(tmp_path: Path) -> None:
    path = _folder(
        tmp_path,
        agent='[htttp]\nport = 1\n[http]\nport = 99999\n[node]\nname = "a b"\n',
        a10="[log]\nlevel = 'loud'\n[qkd.links.x]\nalice = 'nobody'\nbob = 'qkd-bob'\n",
        b20="x = = 1\n",
    )
    faults = check_config(path, environ=USER).faults
    assert [(Path(fault.file).name, fault.line, fault.key) for fault in faults] == [
        ("agent.toml", 1, "htttp"),
        ("agent.toml", 4, "http.port"),
        ("agent.toml", 6, "node.name"),
        ("a10.toml", 2, "log.level"),
        ("a10.toml", 4, "qkd.links.x.alice"),
        ("b20.toml", 1, ""),
    ]
    assert "nearest known key" in faults[0].expected
    assert "0 to 65535" in faults[1].expected


def test_a_configuration_with_faults_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as caught:
        _load(_folder(tmp_path, agent="[http]\nport = -1\nprot = 1\n"))
    assert caught.value.code == "config.invalid"
    assert caught.value.details["faults"] == 2
    assert caught.value.details["line"] == 2
    assert "qedge check" in caught.value.fix


def test_a_path_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as caught:
        load(str(tmp_path / "absent.toml"))
    assert caught.value.code == "config.unreadable"


def _schemas(names: Sequence[str]) -> Schemas:
    setting = SettingInfo("qubits", "int", 20, "How many.", minimum=1, maximum=40)
    missing = QedgeError("driver.not_found", "No driver named 'ghost' is installed.")
    return {name: (setting,) if name == "sim_qpu" else missing for name in names}


def test_settings_of_drivers_are_checked_by_what_the_drivers_describe(tmp_path: Path) -> None:
    text = (
        '[drivers.a]\ndriver = "sim_qpu"\n[drivers.a.settings]\nqubits = 99\nqbits = 1\n[drivers.b]\ndriver = "ghost"\n'
    )
    faults = check_config(_folder(tmp_path, agent=text), environ=USER, describe=_schemas).faults
    assert [(fault.line, fault.key, fault.expected) for fault in faults] == [
        (4, "drivers.a.settings.qubits", "int, 1 to 40"),
        (5, "drivers.a.settings.qbits", "'qubits', the nearest known key"),
        (7, "drivers.b.driver", "an installed driver"),
    ]


@pytest.mark.parametrize(
    ("environ", "state_dir", "configured", "expected"),
    [
        (USER, "", "", ("/home/ada/.local/state/qedge", "/run/user/1000/qedge")),
        ({"HOME": "/home/ada"}, "", "", ("/home/ada/.local/state/qedge", "/home/ada/.local/state/qedge/run")),
        ({**USER, "XDG_STATE_HOME": "/s"}, "", "", ("/s/qedge", "/run/user/1000/qedge")),
        (SERVICE, "", "", ("/var/lib/qedge", "/run/qedge")),
        (SERVICE, "", "/data", ("/data", "/run/qedge")),
        (USER, "", "/data", ("/data", "/data/run")),
        (USER, "/tmp/x", "/data", ("/tmp/x", "/tmp/x/run")),
        (SERVICE, "/tmp/x", "", ("/tmp/x", "/tmp/x/run")),
    ],
)
def test_folders_follow_the_service_the_user_or_the_choice(
    environ: dict[str, str], state_dir: str, configured: str, expected: tuple[str, str]
) -> None:
    config = msgspec.convert({"node": {"state_dir": configured}}, AgentConfig)
    node = with_defaults(config, environ, state_dir).node
    assert (node.state_dir, node.runtime_dir) == expected


def test_a_random_source_that_a_file_names_must_be_configured_but_the_default_one_may_be_absent(tmp_path: Path) -> None:
    drivers = '[drivers.mine]\ndriver = "sim_qpu"\n'
    path = _folder(tmp_path, agent=drivers)
    assert _load(path).config.entropy.source == ""
    (tmp_path / "agent.toml").write_text(drivers + '[entropy]\nsource = "qrng"\n')
    (fault,) = check_config(path, environ=USER).faults
    assert (fault.line, fault.key) == (4, "entropy.source")


def test_a_relative_state_folder_is_a_fault(tmp_path: Path) -> None:
    (fault,) = check_config(_folder(tmp_path, agent="[node]\nstate_dir = 'here'\n"), environ=USER).faults
    assert fault.key == "node.state_dir"


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("edge-7.example.org", "edge-7"), ("größe", "gr-e"), ("", "node"), ("...", "node"), ("x" * 50, "x" * 36)],
)
def test_a_host_name_becomes_a_legal_node_name(hostname: str, name: str) -> None:
    assert legal_name(hostname) == name


def test_a_reload_knows_which_sections_changed_and_which_take_effect_at_once(tmp_path: Path) -> None:
    old = _load(_folder(tmp_path, agent='[drivers.a]\ndriver="x"\n[drivers.b]\ndriver="x"\n')).config
    (tmp_path / "agent.toml").write_text('[http]\nport=5\n[drivers.a]\ndriver="x"\n[drivers.c]\ndriver="x"\n')
    new = _load(str(tmp_path)).config
    assert changed_sections(old, new) == (Change("http", live=False), Change("drivers", live=True, names=("b", "c")))
    assert changed_sections(new, new) == ()


def test_the_layer_of_the_fleet_is_read_last_and_named_as_origin(tmp_path: Path) -> None:
    path = _folder(tmp_path, agent='[http]\nport = 1\n[log]\nlevel = "info"\n', z99="[http]\nport = 2\n")
    layer = tmp_path / "state" / "conf.d" / "90-fleet.toml"
    layer.parent.mkdir(parents=True)
    layer.write_text("[http]\nport = 3\n")
    loaded = load(path, state_dir=str(tmp_path / "state"), environ=USER)
    assert (loaded.config.http.port, loaded.config.log.level) == (3, "info")
    assert str(loaded.origin("http", "port")) == f"{layer}:2"
    assert loaded.files[-1] == str(layer)
    assert len(loaded.fleet_sha256) == 64
    without = load(path, state_dir=str(tmp_path / "state"), environ=USER, fleet_layer="")
    assert (without.config.http.port, without.fleet_sha256) == (2, "")


def test_the_layer_is_found_by_the_state_folder_that_files_of_the_box_name(tmp_path: Path) -> None:
    path = _folder(tmp_path, agent=f'[node]\nstate_dir = "{tmp_path}/state"\n')
    layer = tmp_path / "state" / "conf.d" / "90-fleet.toml"
    layer.parent.mkdir(parents=True)
    layer.write_text("[http]\nport = 3\n")
    assert _load(path).config.http.port == 3


@pytest.mark.parametrize("layer", ['[node]\nstate_dir = "/x"\n', 'node.runtime_dir = "/x"\n', "[nope]\nx = 1\n", "x ="])
def test_a_layer_with_faults_or_with_what_is_not_the_fleets_to_set_is_refused_in_its_place(
    tmp_path: Path, layer: str
) -> None:
    verdict = check_config(_folder(tmp_path), environ=USER, fleet_layer=layer)
    assert verdict.loaded is None
    assert all(fault.file.endswith("conf.d/90-fleet.toml") and fault.line for fault in verdict.faults)


@pytest.mark.parametrize(
    ("layer", "good"),
    [
        ('[fleet.commands]\ntwo_persons = ["wipe", "drain"]\n', False),
        ("fleet.commands.two_persons = []\n", False),
        ('[fleet.commands]\ntwo_persons = ["drain", "policy"]\n', True),
        ("[fleet.commands]\nmax_kept = 100\n", True),
    ],
)
def test_no_layer_takes_away_the_second_person_that_a_file_of_the_box_asks_for(
    tmp_path: Path, layer: str, good: bool
) -> None:
    folder = _folder(tmp_path, agent='[fleet.commands]\ntwo_persons = ["wipe", "policy"]\n')
    verdict = check_config(folder, environ=USER, fleet_layer=layer)
    assert (verdict.loaded is not None) is good
    assert [fault.key for fault in verdict.faults] == ([] if good else ["fleet.commands.two_persons"])
    assert all(fault.line for fault in verdict.faults)


@pytest.mark.parametrize(
    ("box", "wanted", "good"),
    [
        ("", "false", False),
        ("[fleet.commands]\nsynchronised_clock = true\n", "false", False),
        ("[fleet.commands]\nsynchronised_clock = false\n", "false", True),
        ("[fleet.commands]\nsynchronised_clock = false\n", "true", True),
        ("", "true", True),
    ],
)
def test_only_a_file_of_the_box_does_without_a_kept_clock(tmp_path: Path, box: str, wanted: str, good: bool) -> None:
    layer = f"[fleet.commands]\nsynchronised_clock = {wanted}\n"
    verdict = check_config(_folder(tmp_path, agent=box), environ=USER, fleet_layer=layer)
    assert (verdict.loaded is not None) is good
    assert [(fault.key, fault.line) for fault in verdict.faults] == (
        [] if good else [("fleet.commands.synchronised_clock", 2)]
    )


def test_a_layer_of_before_that_rule_stays_in_force_without_what_it_may_not_say(tmp_path: Path) -> None:
    path = _folder(tmp_path)
    layer = tmp_path / "state" / "conf.d" / "90-fleet.toml"
    layer.parent.mkdir(parents=True)
    layer.write_text("[http]\nport = 3\n[fleet.commands]\nsynchronised_clock = false\nmax_kept = 100\n")
    loaded = load(path, state_dir=str(tmp_path / "state"), environ=USER)
    commands = loaded.config.fleet.commands
    assert (loaded.config.http.port, commands.max_kept, commands.synchronised_clock) == (3, 100, True)
    assert loaded.origin("fleet", "commands", "synchronised_clock") is None
