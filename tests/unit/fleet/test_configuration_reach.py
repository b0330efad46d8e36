"""How far the fleet's layer reaches: no setting is forgotten, and what decides on trust it does not loosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from qedge.base.settings import document, dotted
from qedge.config import SECTIONS, AgentConfig, check_config, load
from qedge.fleet.configuration.reach import FREE_SECTIONS, ORDERS, REACHES, Reach, is_free, may_set, pattern_of
from qedge.orchestrator.ledger.config import LedgerConfig

ALL: Final = {
    (*section.split("."), *row.path): row
    for section, struct in SECTIONS.items()
    for row in document(struct)
    if f"{section}.{row.path[0]}.NAME" not in SECTIONS
}
"""Every setting that there is."""

_TELLING: Final = re.compile(
    r"(file|files|listen|listen_tls|certificate|private_key|authorities|revocations|recipient|socket|socket_group"
    r"|allowed_uids|allowed_gids|apps|permit|commands|writable|two_persons|signatures|ciphers|key_exchange)\Z"
    r"|(password|key|cert|ca|manufacturer|join|wrapping_key)_files?\Z"
)
"""Names of settings that name secrets, anchors, listeners, or who may do what."""


def test_every_setting_is_either_in_a_free_section_or_says_how_far_the_fleet_reaches() -> None:
    assert [dotted(path) for path in ALL if is_free(path) is (path in REACHES)] == []
    assert [dotted(path) for path in REACHES if path not in ALL] == []
    assert sorted(FREE_SECTIONS - set(SECTIONS)) == ["ledger"]


def test_every_section_of_the_configuration_is_among_the_sections_that_are_looked_at() -> None:
    known = {section.split(".")[0] for section in SECTIONS}
    assert set(AgentConfig.__struct_fields__) - known == {"ledger"}  # which the reference leaves out
    assert all(is_free(("ledger", name)) for name in LedgerConfig.__struct_fields__)


def test_no_setting_that_names_a_secret_an_anchor_or_a_listener_is_free() -> None:
    free = [path for path in ALL if is_free(path) or REACHES[path] is Reach.FREE]
    # `password_file` and its like are inside no free section; settings of drivers are the drivers' own
    assert [dotted(path) for path in free if _TELLING.search(str(path[-1]))] == []


def test_nothing_of_security_or_crypto_is_free_to_the_fleet() -> None:
    assert [
        dotted(path) for path in ALL if path[0] in ("security", "crypto") and REACHES.get(path) in (None, Reach.FREE)
    ] == []


def test_what_may_be_tightened_has_an_order_of_all_its_choices() -> None:
    assert {path for path, reach in REACHES.items() if reach is Reach.TIGHTEN} == set(ORDERS)
    for path, order in ORDERS.items():
        assert sorted(re.findall(r'"([a-z-]+)"', ALL[path].range)) == sorted(order)


@pytest.mark.parametrize("path", [path for path, reach in REACHES.items() if reach is not Reach.FREE], ids=dotted)
def test_the_fleet_may_repeat_what_the_box_says_whatever_it_is(path: tuple[str, ...]) -> None:
    default = ALL[path].default
    assert may_set(path, REACHES[path], default, list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize(
    ("reach", "box", "loose", "strict"),
    [
        (Reach.RAISE, 3, 2, 5),
        (Reach.LOWER, 0.11, 0.25, 0.1),
        (Reach.SHORTEN, 0.0, None, 60),
        (Reach.SHORTEN, 60, 0, 30.0),
        (Reach.SHORTEN, 60, 61, 60),
        (Reach.ON, False, None, True),
        (Reach.ON, True, False, True),
        (Reach.OFF, False, True, False),
        (Reach.ADD, ("wipe", "policy"), ["wipe"], ["policy", "drain"]),
        (Reach.BOX, "", "/etc/shadow", ""),
        (Reach.RAISE, 3, "5", 4),
    ],
)
def test_a_bound_lets_through_what_is_stricter_and_nothing_looser(
    reach: Reach, box: object, loose: object, strict: object
) -> None:
    assert may_set(("x",), reach, box, strict)
    assert loose is None or not may_set(("x",), reach, box, loose)


LOOSE: Final = (
    '[crypto]\nsignatures = ["ml-dsa-44"]',
    "[crypto]\nexperimental = true",
    '[crypto]\nextra_key = "off"',
    '[devices.listener]\nlisten = ["0.0.0.0:1883"]',
    '[devices.enrolment]\nopen_to = "anybody"',
    '[security.detection]\nmode = "observe"',
    "[security.audit]\nfiles = 2",
    '[security.policy]\nfile = "/tmp/mine.toml"',
    '[mesh]\nlisten = "0.0.0.0:7000"',
    '[broker]\npassword_file = "/var/lib/qedge/keys.wrap"',
    '[qkd.saes.mine]\npermit = ["*"]',
    "[qkd.delivery]\nenabled = true",
    "[qkd.links.main]\nmax_qber = 0.25",
    "[http]\nallowed_uids = [1000]",
    "[http.apps]\nmine = [1000]",
    "[fleet.commands]\nenabled = false",
    '[fleet.thin_edge]\ncommands = ["restart"]',
    "[fleet.home_assistant]\ninstall = true",
    "[results]\ncheck_share = 0.0",
)


@pytest.mark.parametrize("layer", LOOSE)
def test_a_layer_that_loosens_trust_is_refused_in_its_place_and_a_file_of_the_box_may_say_it(
    tmp_path: Path, layer: str
) -> None:
    (tmp_path / "agent.toml").write_text("")
    verdict = check_config(str(tmp_path), environ={}, fleet_layer=f"{layer}\n")
    assert verdict.loaded is None
    assert any(fault.line and "is not for the fleet" in fault.problem for fault in verdict.faults)
    (tmp_path / "agent.toml").write_text(f"{layer}\n")
    again = check_config(str(tmp_path), environ={}, fleet_layer=f"{layer}\n")
    assert not any("is not for the fleet" in fault.problem for fault in again.faults)


def test_a_layer_may_make_the_box_stricter(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[crypto]\nfloor = 3\n")
    layer = '[crypto]\nfloor = 5\nextra_key = "require"\n[security.audit]\nfiles = 64\n[qkd.links]\n'
    assert check_config(str(tmp_path), environ={}, fleet_layer=layer).loaded is not None


def test_a_layer_in_force_of_before_the_rule_counts_without_what_it_may_not_say(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("")
    file = tmp_path / "state" / "conf.d" / "90-fleet.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        '[http]\nport = 3\nallowed_uids = [7]\n[crypto]\nexperimental = true\n[qkd.saes.mine]\npermit = ["*"]\n'
    )
    loaded = load(str(tmp_path), state_dir=str(tmp_path / "state"), environ={})
    config = loaded.config
    assert (config.http.port, config.http.allowed_uids, config.crypto.experimental) == (3, (), False)
    assert config.qkd.saes == {}


def test_a_name_of_a_table_is_no_way_around_the_rule() -> None:
    assert pattern_of(("qkd", "saes", "listen", "permit")) == ("qkd", "saes", "NAME", "permit")
    assert pattern_of(("devices", "segments", "apps", "apps")) == ("devices", "segments", "NAME", "apps")
    assert is_free(("drivers", "NAME", "settings"))
