"""Runs as root inside a booted Debian: installs the package, updates it well and badly, removes it again.

It judges nothing; `test_update_systemd.py` does. Standard library only: the machine has a bare Python. `/given` holds
packages, bundles and the public release key.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import systemd_steps as service
from systemd_steps import call, main_pid, run_steps, shown, wait

GIVEN = Path("/given")
STAGING = Path("/var/lib/qedge/update")
REPORT = Path("/opt/qedge/update/report.json")
JOURNAL = Path("/opt/qedge/update/journal.json")
CURRENT = Path("/opt/qedge/current")
PLACES = ("/opt", "/etc", "/usr", "/var/lib", "/lib")

service.PROGRAM = "/usr/bin/qedge"


def sums() -> dict[str, str]:
    """Return the hashes of the bundles."""
    return json.loads((GIVEN / "sums.json").read_text())


def hand_over(name: str, order: str, *, sha256: str = "") -> None:
    """Leave a bundle and the request for it, as the daemon does and as its user."""
    user = pwd.getpwnam("qedge")
    target = STAGING / f"{order}.qup"
    shutil.copyfile(GIVEN / name, target)
    draft = STAGING / "draft"
    draft.write_text(json.dumps({"id": order, "bundle": target.name, "sha256": sha256 or sums()[name]}))
    for path in (target, draft):
        os.chown(path, user.pw_uid, user.pw_gid)
    draft.rename(STAGING / "request.json")


def report_of(order: str) -> dict[str, object]:
    """Return the updater's report on a request; empty while there is none."""
    try:
        report = json.loads(REPORT.read_text())
    except FileNotFoundError:
        return {}
    return report if report["id"] == order else {}


def answers() -> bool:
    """Say whether the daemon answers its operators."""
    return call("qedge", "status", check=False, limit_s=20).returncode == 0


def update(name: str, order: str, watch: Callable[[], None] | None = None) -> dict[str, object]:
    """Have one update made and return its report, with what became of the service meanwhile.

    `away_s` is the time from the switch until the report, 0 where there was no switch; `took_s` is that of all.
    """
    before, slot, pid = call("qedge", "--version").stdout.strip(), os.readlink(CURRENT), main_pid()
    begun = time.monotonic()
    hand_over(name, order)
    switched = reported = ended = 0.0
    while not ended:
        if not switched and os.readlink(CURRENT) != slot:
            switched = time.monotonic()
            if watch is not None:
                watch()
        if not reported and report_of(order):
            reported = time.monotonic()
        if reported and not JOURNAL.exists():
            ended = time.monotonic()
        if time.monotonic() - begun > 900:
            raise TimeoutError(f"no report on {order}: {journal_of_updater()}")
        time.sleep(0.1)
    wait("an answer", answers)
    return {
        "report": report_of(order),
        "before": before,
        "after": call("qedge", "--version").stdout.strip(),
        "slots": [slot, os.readlink(CURRENT), os.readlink("/opt/qedge/kept")],
        "pids": [pid, main_pid()],
        "away_s": round(reported - switched, 2) if switched else 0.0,
        "took_s": round(ended - begun, 1),
        "left": sorted(path.name for path in STAGING.iterdir()),
        "active": shown("ActiveState"),
        "jobs": jobs(),
    }


def jobs() -> int:
    """Return how many jobs the node knows."""
    listed = json.loads(call("qedge", "jobs", "list", "--json").stdout)
    return len(listed["jobs"] if isinstance(listed, dict) else listed)


def journal_of_updater() -> str:
    """Return the end of what the updater logged."""
    return call("journalctl", "-u", "qedge-update", "-o", "cat", "--no-pager").stdout[-2000:]


def left_of(*names: str) -> list[str]:
    """Return the files below the usual places whose names have one of `names` in them."""
    tests = " -o ".join(f"-name *{name}*" for name in names).split()
    return call(
        "find", *PLACES, "-xdev", "(", *tests, ")", "-not", "-path", "/opt/qedge/*/lib/*", check=False
    ).stdout.split()


def step_install() -> dict[str, object]:
    """Install the package on a box that never had it."""
    begun = time.monotonic()
    done = call("dpkg", "-i", str(next(GIVEN.glob("qedge_0.1.0_*.deb"))), limit_s=900)
    took_s = round(time.monotonic() - begun, 1)
    wait("drivers", service.drivers_up)
    shutil.copy(GIVEN / "release.json", "/etc/qedge/release-keys/release.json")
    return {
        "took_s": took_s,
        "said": done.stderr,
        "active": shown("ActiveState"),
        "enabled": [shown("UnitFileState"), call("systemctl", "is-enabled", "qedge-update.path").stdout.strip()],
        "version": call("qedge", "--version").stdout.strip(),
        "slots": [os.readlink(CURRENT), os.readlink("/opt/qedge/kept"), Path("/opt/qedge/b").exists()],
        "config": call("stat", "-c", "%U:%G:%a", "/etc/qedge", "/etc/qedge/agent.toml").stdout.split(),
        "work": service.work(),
        "exposure": call("systemd-analyze", "security", "--no-pager", "qedge-update.service").stdout.splitlines()[-1],
    }


def change_settings(text: str) -> dict[str, object]:
    """Have the daemon try a layer of the fleet that takes a restart."""
    before, restarts, starts = main_pid(), shown("NRestarts"), service.journal().count("daemon.starting")
    layer = Path("/run/layer.toml")
    layer.write_text(text)
    call("qedge", "config", "stage", str(layer))
    done = call("qedge", "config", "apply", "--json", check=False, limit_s=300)
    wait("an answer", answers)
    return {
        "code": done.returncode,
        "view": json.loads(done.stdout),
        "pids": [before, main_pid()],
        "restarts": [restarts, shown("NRestarts")],
        "starts": service.journal().count("daemon.starting") - starts,
        "active": shown("ActiveState"),
    }


def step_settings() -> dict[str, object]:
    """Layers of the fleet that take a restart, which the daemon makes of itself: one with which no start succeeds, and
    a good one.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bad = change_settings(f"[http]\nport = {port}\n")
    good = change_settings("[engine]\nqueue_limit = 1234\n")
    wait("drivers", service.drivers_up)
    return {"bad": bad, "good": good}


def step_first_update_hangs() -> dict[str, object]:
    """The very first update is to a version that never becomes ready."""
    return update("hangs.qup", "first")


def step_killed_updater() -> dict[str, object]:
    """A good update, whose updater is killed after the switch."""
    killed: list[int] = []

    def kill() -> None:
        pid = int(call("systemctl", "show", "qedge-update", "-p", "MainPID", "--value").stdout.strip() or 0)
        if pid:
            os.kill(pid, 9)
            killed.append(pid)

    seen = update("good.qup", "good", kill)
    wait("drivers", service.drivers_up)
    return {**seen, "killed": len(killed), "work": service.work()}


def step_back_and_forth() -> dict[str, object]:
    """Go back to the version before, and back from there."""
    seen = {}
    for name in ("back", "forth"):
        done = call("qedge", "update", "back", "--json", limit_s=600)
        seen[name] = {"report": json.loads(done.stdout), "version": call("qedge", "--version").stdout.strip()}
    return seen


def step_crashes() -> dict[str, object]:
    """A version that ends as soon as it is started."""
    return update("crashes.qup", "crashes")


def step_migrates() -> dict[str, object]:
    """A version that changes the schema of the database and then hangs."""
    return update("migrates.qup", "migrates")


def step_refused() -> dict[str, object]:
    """Bundles that must change nothing: altered, foreign, older, another one than was ordered, and odd requests."""
    shutil.copyfile(GIVEN / "good.qup", "/run/altered.qup")
    seen: dict[str, object] = {"older": update("hangs.qup", "older"), "foreign": update("foreign.qup", "foreign")}
    with open("/run/altered.qup", "r+b") as file:
        file.seek(-30_000_000, 2)
        file.write(b"altered")
    with contextlib.suppress(FileNotFoundError):
        (GIVEN / "altered.qup").unlink()
    shutil.move("/run/altered.qup", GIVEN / "altered.qup")
    altered = call("sha256sum", str(GIVEN / "altered.qup")).stdout.split()[0]
    (GIVEN / "sums.json").write_text(json.dumps({**sums(), "altered.qup": altered}))
    seen["altered"] = update("altered.qup", "altered")
    os.symlink("/etc/shadow", STAGING / "link.qup")
    (STAGING / "draft").write_text(json.dumps({"id": "link", "bundle": "link.qup", "sha256": "0" * 64}))
    (STAGING / "draft").rename(STAGING / "request.json")
    wait("a report", lambda: report_of("link"))
    seen["link"] = report_of("link")
    (STAGING / "draft").write_text("{not a request")
    (STAGING / "draft").rename(STAGING / "request.json")
    wait("the request to go", lambda: not (STAGING / "request.json").exists())
    seen["path"] = call("systemctl", "is-active", "qedge-update.path").stdout.strip()
    return seen


def step_apply() -> dict[str, object]:
    """Root puts a bundle onto the box by hand."""
    done = call("qedge", "update", "apply", str(GIVEN / "crashes.qup"), "--json", check=False, limit_s=900)
    status = call("qedge", "update", "status", "--json").stdout
    return {"code": done.returncode, "report": json.loads(done.stdout), "status": json.loads(status)}


def step_upgrade() -> dict[str, object]:
    """Upgrade by a newer package, with a changed configuration file."""
    with open("/etc/qedge/agent.toml", "a") as file:
        file.write("# changed here\n")
    before = call("qedge", "--version").stdout.strip()
    begun = time.monotonic()
    call("dpkg", "-i", str(next(GIVEN.glob("qedge_0.9.0_*.deb"))), limit_s=900)
    took_s = round(time.monotonic() - begun, 1)
    wait("drivers", service.drivers_up)
    return {
        "took_s": took_s,
        "before": before,
        "after": call("qedge", "--version").stdout.strip(),
        "kept": "# changed here" in Path("/etc/qedge/agent.toml").read_text(),
        "active": shown("ActiveState"),
        "jobs": jobs(),
        "work": service.work(),
    }


def step_bad_package() -> dict[str, object]:
    """Upgrade by a package whose program does not come up."""
    before = jobs()
    done = call("dpkg", "-i", str(next(GIVEN.glob("qedge_0.9.1_*.deb"))), limit_s=900, check=False)
    wait("an answer", answers)
    seen = {
        "code": done.returncode,
        "said": done.stderr[-500:],
        "version": call("qedge", "--version").stdout.strip(),
        "jobs": [before, jobs()],
    }
    call("dpkg", "-i", str(next(GIVEN.glob("qedge_0.9.0_*.deb"))), limit_s=900)
    return {**seen, "state": call("dpkg-query", "-W", "-f", "${Status} ${Version}", "qedge").stdout}


def step_remove() -> dict[str, object]:
    """Remove the package; configuration and state stay."""
    call("dpkg", "-r", "qedge", limit_s=900)
    return {
        "left": left_of("qedge"),
        "loaded": [
            shown("LoadState"),
            call("systemctl", "show", "qedge-update.path", "-p", "LoadState").stdout.strip(),
        ],
        "processes": service.processes(),
        "failed_units": call("systemctl", "--failed", "--no-legend").stdout.strip(),
    }


def step_purge() -> dict[str, object]:
    """Remove everything."""
    call("dpkg", "-P", "qedge", limit_s=900)
    return {"left": left_of("qedge")}


STEPS = (
    step_install,
    step_settings,
    step_first_update_hangs,
    step_killed_updater,
    step_back_and_forth,
    step_crashes,
    step_migrates,
    step_refused,
    step_apply,
    step_upgrade,
    step_bad_package,
    step_remove,
    step_purge,
)

if __name__ == "__main__":
    run_steps(STEPS, Path(sys.argv[1]), lambda: service.journal() + "\n-----\n" + journal_of_updater())
