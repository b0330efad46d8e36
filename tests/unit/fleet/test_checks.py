"""Every fault of a box that can be seen is found, and each finding says what to do."""

from __future__ import annotations

import msgspec
import pytest

from qedge.fleet.diagnostics.checks import examine
from qedge.fleet.diagnostics.model import BoxFacts, BoxSettings, DatabaseFile, FileCertificate, Folder, Listener
from qedge.wire.diagnostics import CheckVerdict
from qedge.wire.node import BusView, DriverView, EntropyView, HostView, NodeStatus, ServiceView
from qedge.wire.trust import IdentityView

DAY_NS = 86_400 * 10**9
NOW = 1_000 * DAY_NS
LISTENER = Listener("http.port", "127.0.0.1", 80)
WELL = BoxSettings("box", "/s", "/r", files=("/etc/qedge/agent.toml",), drivers=(("qpu", "sim_qpu"),))
SOUND = BoxFacts(
    utc_ns=NOW,
    python=(3, 11),
    state=Folder("/s", free_bytes=2**40, free_share=0.5),
    databases=(DatabaseFile("/s/qedge.sqlite3", 4096),),
    socket_path="/r/qedge.sock",
    ports={LISTENER: ""},
    broker_programs=("mosquitto", "iotcore"),
    clock_synchronised=True,
    open_files_soft=1024,
    open_files_hard=100_000,
    memory_total_bytes=2**34,
    memory_available_bytes=2**33,
    installed_drivers=("sim_qpu",),
)
UP = DriverView("qpu", "sim_qpu", "qpu", "1", True, "unlocked", "up")
STATUS = NodeStatus(
    "box", "f", "1", False, "b", 1.0, NOW, True, (ServiceView("web", "ready"),), (UP,),
    BusView(True, "127.0.0.1:1883", "mosquitto"), EntropyView("", False, False), HostView(verdict="ok"),
)  # fmt: skip
IDENTITY = IdentityView("f", "box", False, "k", "ml-dsa-65", "p", NOW - 30 * DAY_NS, NOW + 60 * DAY_NS)


def seen(**changed: object) -> BoxFacts:
    """Return a sound box with something else."""
    values = {name: getattr(SOUND, name) for name in BoxFacts.__dataclass_fields__}
    return BoxFacts(**{**values, **changed})


def set_to(**changed: object) -> BoxSettings:
    """Return settings with something else."""
    values = {name: getattr(WELL, name) for name in BoxSettings.__dataclass_fields__}
    return BoxSettings(**{**values, **changed})


def status(**changed: object) -> NodeStatus:
    """Return what a well daemon says, with something else."""
    return msgspec.structs.replace(STATUS, **changed)


def test_a_sound_box_has_nothing_wrong_whether_its_daemon_runs_or_not() -> None:
    stopped = examine(WELL, SOUND)
    assert [check.subject for check in stopped if check.verdict is CheckVerdict.FAILED] == []
    assert [check.subject for check in stopped if check.verdict is CheckVerdict.WARNING] == ["daemon"]
    running = examine(WELL, seen(status=STATUS, identity=IDENTITY))
    assert {check.verdict for check in running} == {CheckVerdict.OK}


@pytest.mark.parametrize(
    ("settings", "facts", "subject", "verdict", "word"),
    [
        (set_to(faults=("agent.toml:3: no",)), SOUND, "configuration", "failed", "agent.toml:3"),
        (WELL, seen(state=Folder("/s", problem="Permission denied")), "state folder", "failed", "Permission"),
        (WELL, seen(state=Folder("/s", missing=True)), "state folder", "skipped", "first start"),
        (WELL, seen(state=Folder("/s", free_bytes=2**20)), "disk", "failed", "1.0 MiB"),
        (WELL, seen(state=Folder("/s", free_bytes=2**40, free_share=0.01)), "disk", "warning", "free"),
        (WELL, seen(state=Folder("/s", free_bytes=2**40, loose=("/s/key",))), "permissions", "failed", "/s/key"),
        (WELL, seen(loose_secrets=("/etc/pw",)), "permissions", "failed", "/etc/pw"),
        (WELL, seen(databases=(DatabaseFile("/s/q", 1, "malformed"),)), "database", "failed", "malformed"),
        (WELL, seen(socket_path="/" + "x" * 120), "daemon", "failed", "longer"),
        (WELL, seen(status=status(not_ready=("bus",))), "daemon", "failed", "bus"),
        (WELL, seen(status=status(services=(ServiceView("w", "backoff", 9, "boom"),))), "service", "warning", "boom"),
        (set_to(broker=("10.0.0.9", 1883)), seen(broker_problem="refused"), "broker", "failed", "refused"),
        (WELL, seen(broker_programs=()), "broker", "failed", "installed"),
        (WELL, seen(broker_programs=("iotcore",)), "broker", "warning", "mosquitto"),
        (WELL, seen(ports={LISTENER: "Address already in use"}), "port", "failed", "in use"),
        (WELL, seen(clock_synchronised=False), "clock", "warning", "synchronises"),
        (WELL, seen(clock_synchronised=None), "clock", "skipped", "kernel"),
        (
            WELL,
            seen(identity=msgspec.structs.replace(IDENTITY, valid_until_utc_ns=NOW - DAY_NS)),
            "certificate",
            "failed",
            "expired",
        ),
        (
            WELL,
            seen(
                identity=msgspec.structs.replace(
                    IDENTITY,
                    valid_from_utc_ns=NOW - 70 * DAY_NS,
                    valid_until_utc_ns=NOW + 20 * DAY_NS,
                    renewal="asked 9 times: nobody answers",
                )
            ),
            "certificate",
            "warning",
            "20 days; asked 9 times",
        ),
        (WELL, seen(certificates=(FileCertificate("/c", NOW + DAY_NS),)), "certificate", "warning", "1 days"),
        (WELL, seen(certificates=(FileCertificate("/c", 0, "no PEM"),)), "certificate", "failed", "no PEM"),
        (WELL, seen(installed_drivers=("other",)), "driver", "failed", "sim_qpu"),
        (
            WELL,
            seen(status=status(drivers=(msgspec.structs.replace(UP, operating_state="down", reason="cable"),))),
            "driver",
            "failed",
            "cable",
        ),
        (
            WELL,
            seen(status=status(drivers=(msgspec.structs.replace(UP, admin_state="locked"),))),
            "driver",
            "warning",
            "locked",
        ),
        (set_to(max_devices=200_000), SOUND, "limits", "warning", "200512"),
        (WELL, seen(memory_available_bytes=2**20), "memory", "warning", "available"),
    ],
)
def test_each_fault_is_found_and_says_what_to_do(
    settings: BoxSettings, facts: BoxFacts, subject: str, verdict: str, word: str
) -> None:
    found = [check for check in examine(settings, facts) if check.subject == subject and check.verdict == verdict]
    assert found
    assert any(word in check.finding for check in found)
    assert all(check.fix or check.verdict == "skipped" for check in found)
