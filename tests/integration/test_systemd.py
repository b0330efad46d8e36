"""The service under a real systemd: a Debian 12 is booted in a container, and the daemon in it is treated badly.

The steps are in `systemd_steps.py`; what they saw is judged here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.integration.debian import (
    ROOT,
    Seen,
    add_steps,
    boot,
    build_wheel,
    container,
    dependencies,
    plant,
    require_tools,
)
from tests.integration.debian import step_of as _step

STEPS = Path(__file__).with_name("systemd_steps.py")
BOOT_LIMIT_S = 420.0
STOP_LIMIT_S = 5.0

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]


def _install_program(tree: Path, wheels: Path) -> None:
    """Install the program of this source tree as its guide says, into /opt/qedge."""
    script = (
        "python3 -m venv /opt/qedge && "
        "/opt/qedge/bin/pip install -q --no-index --find-links /wheels/own --find-links /wheels/lock qedge"
    )
    binds = [f"--bind-ro={wheels}:/wheels/own", f"--bind-ro={dependencies()}:/wheels/lock"]
    done = subprocess.run(
        [*container(tree, *binds), "/bin/sh", "-c", script], capture_output=True, text=True, timeout=300
    )
    if "ermission" in done.stderr and not (tree / "opt/qedge").exists():
        pytest.skip(f"this machine does not let containers be made: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Boot once, run all steps, and return what they saw."""
    require_tools()
    work = tmp_path_factory.mktemp("systemd")
    tree, results, wheels = work / "tree", work / "results", work / "wheels"
    results.mkdir()
    try:
        plant(tree)
        build_wheel(ROOT, wheels)
        _install_program(tree, wheels)
        add_steps(tree, [STEPS])
        yield boot(tree, results, BOOT_LIMIT_S)
    finally:
        # Half a gigabyte that nobody looks at again; the results stay.
        shutil.rmtree(tree, ignore_errors=True)


def test_the_told_commands_bring_up_a_service_that_works(seen: Seen) -> None:
    step = _step(seen, "install")
    assert set(step["codes"].values()) == {0}, step["codes"]
    assert (step["active"], step["enabled"]) == ("active", "enabled")
    assert step["work"]["job"]["state"] == "done"
    assert len(bytes.fromhex(step["work"]["random"])) == 32
    assert "written" not in step["again"]


def test_every_process_of_the_service_has_the_user_qedge_and_no_rights(seen: Seen) -> None:
    step = _step(seen, "rights")
    assert 0 < int(step["user"]) < 1000
    assert len(step["processes"]) > 2
    for process in step["processes"]:
        assert process["Uid"] == step["user"], process
        assert int(process["CapEff"], 16) == int(process["CapBnd"], 16) == 0, process
        assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2"), process
    assert step["files"] == {"/var/lib/qedge": f"{step['user']}:700", "/run/qedge": f"{step['user']}:755"}
    assert step["config"] == ["root:qedge:750", "root:qedge:640"]


def test_workers_keep_their_memory_limit_under_the_system_call_filter(seen: Seen) -> None:
    workers = [each for each in _step(seen, "rights")["processes"] if "qedge.workers.host" in each["command"]]
    assert workers
    assert all(each["address_space"] != "unlimited" for each in workers), workers


def test_the_running_unit_is_exposed_by_at_most_two(seen: Seen) -> None:
    step = _step(seen, "security")
    assert step["code"] == 0, step


def test_nothing_is_written_outside_the_folders_of_the_service(seen: Seen) -> None:
    step = _step(seen, "writes")
    assert step["outside"] == []
    assert step["inside"] > 0


def test_a_reload_keeps_the_process_and_applies_the_change(seen: Seen) -> None:
    step = _step(seen, "reload")
    assert step["code"] == 0
    assert step["before"] == step["after"] != 0
    assert "log" in msgspec.json.decode(step["line"])["changed"]


def test_no_hangup_however_early_ends_the_daemon(seen: Seen) -> None:
    step = _step(seen, "early_hangup")
    assert step["sent"] > 0
    assert step["before"] == step["after"] != 0


def test_a_daemon_that_ends_by_itself_is_started_again(seen: Seen) -> None:
    step = _step(seen, "ends")
    for before, after in (step["SIGKILL"], step["SIGTERM"]):
        assert after not in (0, before)


def test_named_users_and_groups_are_let_in_and_nobody_else(seen: Seen) -> None:
    step = _step(seen, "people")
    assert step["socket"] == "qedge:lab:660"
    for names in (step["by_group"], step["by_user"]):
        assert names["ana"][0] == 0, names["ana"]
        assert names["bob"][0] != 0, names["bob"]


def test_a_further_group_of_a_user_counts_too(seen: Seen) -> None:
    step = _step(seen, "people")
    assert step["by_group"]["eva"][0] == 0, step["by_group"]["eva"]


def test_the_watchdog_replaces_a_frozen_daemon_and_leaves_a_healthy_one_alone(seen: Seen) -> None:
    step = _step(seen, "watchdog")
    calm, still = step["calm"]
    assert calm == still != 0
    assert step["after"] not in (0, still)
    assert step["restarts"][1] == step["restarts"][0] + 1
    assert step["said"]
    assert step["work"]["job"]["state"] == "done"


def test_a_stop_takes_at_most_five_seconds_and_leaves_no_process(seen: Seen) -> None:
    step = _step(seen, "stop")
    assert max(step["times_s"]) <= STOP_LIMIT_S
    assert step["left"] == []
    assert (step["result"], step["active"]) == ("success", "inactive")


def test_uninstalling_leaves_only_configuration_and_state(seen: Seen) -> None:
    step = _step(seen, "uninstall")
    assert step["left"] == []
    assert step["loaded"] == "not-found"
    assert step["state"]
