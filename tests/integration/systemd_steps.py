"""Runs as root inside a booted Debian: installs the service, treats it badly and writes what was seen as JSON.

It judges nothing; `test_systemd.py` does. Standard library only: the machine has a bare Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = "/opt/qedge/bin/qedge"
UNIT_DROP_INS = Path("/etc/systemd/system/qedge.service.d")
CONFIG_DROP_INS = Path("/etc/qedge/conf.d")
MARKER = Path("/var/tmp/marker")
BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
ALLOWED = ("/var/lib/qedge", "/run", "/var/log", "/tmp", "/var/tmp", "/proc", "/sys", "/dev", "/results")


def call(*command: str, limit_s: float = 120, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command and keep its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, input=text)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return done


def shown(name: str) -> str:
    """Return a property of the unit."""
    return call("systemctl", "show", "qedge", "-p", name, "--value").stdout.strip()


def main_pid() -> int:
    """Return the daemon's process id; 0: there is none."""
    return int(shown("MainPID") or 0)


def journal() -> str:
    """Return everything that the unit logged, systemd's own words included."""
    return call("journalctl", "-u", "qedge", "-o", "cat", "--no-pager").stdout


def wait(what: str, condition: Callable[[], object], limit_s: float = 60) -> None:
    """Poll until `condition` holds."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError(what)


def drivers_up() -> bool:
    """Say whether every driver of the node is up."""
    done = call(PROGRAM, "drivers", "list", "--json", check=False)
    if done.returncode != 0:
        return False
    drivers = json.loads(done.stdout)
    drivers = drivers.get("drivers", []) if isinstance(drivers, dict) else drivers
    return bool(drivers) and all(driver["operating_state"] == "up" for driver in drivers)


def processes() -> list[int]:
    """Return the processes of the service: all that the user qedge has, wherever they are."""
    user = pwd.getpwnam("qedge").pw_uid
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_uid == user:
                found.append(int(folder.name))
    return found


def process_facts(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process's rights."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    space = next(line.split()[3] for line in limits if line.startswith("Max address space"))
    kept = {name: facts[name].split()[0] for name in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
    return {**kept, "command": command, "address_space": space}


def work() -> dict[str, object]:
    """Use the daemon as its user would."""
    Path("/run/bell.qasm").write_text(BELL)
    job = call(PROGRAM, "submit", "/run/bell.qasm", "--shots", "500", "--json")
    random = call(PROGRAM, "random", "32", "--require-quantum", "--hex")
    return {"job": json.loads(job.stdout), "random": random.stdout.strip()}


def step_install() -> dict[str, object]:
    """Install, then run exactly the commands that were told."""
    said = call(PROGRAM, "install", "--systemd").stdout
    commands = [line.strip() for line in said.split("To start it:")[1].splitlines() if line.strip()]
    codes = {command: call(*command.split(), check=False).returncode for command in commands}
    facts: dict[str, object] = {"codes": codes, "active": shown("ActiveState"), "enabled": shown("UnitFileState")}
    wait("drivers", drivers_up)
    facts["work"] = work()
    facts["again"] = call(PROGRAM, "install", "--systemd").stdout
    return facts


def step_rights() -> dict[str, object]:
    """Look at every process of the service, with a limit on the memory of workers."""
    (CONFIG_DROP_INS / "05-limit.toml").write_text("[workers]\nmemory_limit_mib = 4096\n")
    call("systemctl", "restart", "qedge")
    wait("drivers", drivers_up)
    work()
    user = call("id", "-u", "qedge").stdout.strip()
    files = {
        path: f"{os.stat(path).st_uid}:{os.stat(path).st_mode & 0o7777:o}" for path in ("/var/lib/qedge", "/run/qedge")
    }
    config = call("stat", "-c", "%U:%G:%a", "/etc/qedge", "/etc/qedge/agent.toml").stdout.split()
    return {"user": user, "processes": [process_facts(pid) for pid in processes()], "files": files, "config": config}


def step_security() -> dict[str, object]:
    """Let systemd judge the running unit."""
    done = call("systemd-analyze", "security", "--no-pager", "--threshold=20", "qedge.service", check=False)
    return {"code": done.returncode, "last": done.stdout.strip().splitlines()[-1:]}


def step_writes() -> dict[str, object]:
    """Restart, work and stop; find every file that changed meanwhile."""
    call("systemctl", "stop", "qedge")
    MARKER.write_text("")
    time.sleep(0.1)
    call("systemctl", "start", "qedge")
    wait("drivers", drivers_up)
    work()
    call("systemctl", "stop", "qedge")
    newer = call("find", "/", "-xdev", "-newer", str(MARKER), "-print", check=False).stdout.splitlines()
    changed = call("find", "/", "-xdev", "-cnewer", str(MARKER), "-print", check=False).stdout.splitlines()
    owned = call("find", "/", "-xdev", "-user", "qedge", "-print", check=False).stdout.splitlines()
    call("systemctl", "start", "qedge")
    outside = sorted(path for path in {*newer, *changed, *owned} if not path.startswith(ALLOWED) and path != "/")
    return {"outside": outside, "inside": sum(path.startswith("/var/lib/qedge") for path in newer)}


def step_reload() -> dict[str, object]:
    """Change the log level by a drop-in and reload."""
    wait("drivers", drivers_up)
    before, seen = main_pid(), journal().count("daemon.reloaded")
    drop_in = CONFIG_DROP_INS / "10-log.toml"
    drop_in.write_text('[log]\nlevel = "debug"\n')
    code = call("systemctl", "reload", "qedge").returncode
    wait("daemon.reloaded", lambda: journal().count("daemon.reloaded") > seen)
    lines = [line for line in journal().splitlines() if "daemon.reloaded" in line]
    wait("active", lambda: shown("ActiveState") == "active")
    return {"code": code, "before": before, "after": main_pid(), "line": lines[-1], "restarts": shown("NRestarts")}


def hangup_is_ignored(pid: int) -> bool:
    """Say whether a process ignores or catches SIGHUP (signal 1 is the lowest bit)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = dict(line.split(":\t", 1) for line in lines if line.startswith(("SigIgn", "SigCgt")))
    return any(int(mask, 16) & 1 for mask in masks.values())


def step_early_hangup() -> dict[str, object]:
    """Send SIGHUP from the moment on at which `env` has it ignored, until the daemon is ready."""
    call("systemctl", "stop", "qedge")
    call("systemctl", "start", "--no-block", "qedge")
    wait("a process", main_pid)
    pid, sent = main_pid(), 0
    wait("SIGHUP ignored", lambda: hangup_is_ignored(pid), 10)
    while shown("ActiveState") == "activating" and main_pid() == pid and sent < 2000:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
        sent += 1
    wait("active", lambda: shown("ActiveState") in ("active", "reloading"))
    return {"sent": sent, "before": pid, "after": main_pid()}


def step_ends() -> dict[str, object]:
    """End the daemon from outside systemd, uncleanly and cleanly; both must bring it back."""
    seen: dict[str, object] = {}
    for number in (signal.SIGKILL, signal.SIGTERM):
        wait("drivers", drivers_up)
        before = main_pid()
        os.kill(before, number)
        wait("another process", lambda pid=before: main_pid() not in (0, pid))
        wait("active", lambda: shown("ActiveState") == "active")
        seen[number.name] = [before, main_pid()]
    return seen


def step_people() -> dict[str, object]:
    """Those that the configuration names are let in, by their user or by their group; another user is not."""
    call("groupadd", "lab")
    call("useradd", "-M", "-g", "lab", "ana")
    call("useradd", "-M", "bob")
    call("useradd", "-M", "-G", "lab", "eva")
    call("usermod", "-a", "-G", "lab", "qedge")
    drop_in = CONFIG_DROP_INS / "20-people.toml"
    drop_in.write_text('[http]\nsocket_group = "lab"\n')
    call("systemctl", "restart", "qedge")
    wait("drivers", drivers_up)
    socket = call("stat", "-c", "%U:%G:%a", "/run/qedge/qedge.sock").stdout.strip()
    by_group = {name: greet(name) for name in ("ana", "bob", "eva")}
    drop_in.write_text(f"[http]\nallowed_uids = [{pwd.getpwnam('ana').pw_uid}]\n")
    call("systemctl", "restart", "qedge")
    wait("drivers", drivers_up)
    return {"socket": socket, "by_group": by_group, "by_user": {name: greet(name) for name in ("ana", "bob")}}


def greet(user: str) -> list[object]:
    """Ask for the status as this user."""
    done = call("runuser", "-u", user, "--", PROGRAM, "status", check=False)
    return [done.returncode, done.stderr[-300:]]


def step_watchdog() -> dict[str, object]:
    """Freeze the daemon; the watchdog must notice and replace it."""
    UNIT_DROP_INS.mkdir(exist_ok=True)
    (UNIT_DROP_INS / "90-test.conf").write_text("[Service]\nWatchdogSec=4\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "qedge")
    wait("drivers", drivers_up)
    # A daemon that is well must outlive several times its limit.
    calm = main_pid()
    time.sleep(10)
    still, restarts = main_pid(), int(shown("NRestarts"))
    begun = time.monotonic()
    os.kill(still, signal.SIGSTOP)
    wait("another process", lambda: main_pid() not in (0, still))
    wait("active", lambda: shown("ActiveState") == "active")
    took = time.monotonic() - begun
    wait("drivers", drivers_up)
    return {
        "calm": [calm, still],
        "restarts": [restarts, int(shown("NRestarts"))],
        "after": main_pid(),
        "took_s": round(took, 2),
        "said": "Watchdog timeout" in journal(),
        "work": work(),
    }


def step_stop() -> dict[str, object]:
    """Stop with everything running, several times."""
    times = []
    for _ in range(3):
        call("systemctl", "start", "qedge")
        wait("drivers", drivers_up)
        pids = processes()
        begun = time.monotonic()
        call("systemctl", "stop", "qedge")
        times.append(round(time.monotonic() - begun, 2))
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    return {
        "times_s": times,
        "left": left,
        "result": shown("Result"),
        "active": shown("ActiveState"),
        "were": len(pids),
    }


def step_uninstall() -> dict[str, object]:
    """Remove everything but configuration and state."""
    (UNIT_DROP_INS / "90-test.conf").unlink()
    UNIT_DROP_INS.rmdir()
    call("systemctl", "start", "qedge")
    said = call(PROGRAM, "install", "--systemd", "--uninstall").stdout
    for command in ("systemctl stop qedge", "systemctl daemon-reload"):
        call(*command.split())
    left = call("find", "/etc", "-name", "*qedge*", "-not", "-path", "/etc/qedge*").stdout.split()
    return {"said": said, "left": left, "loaded": shown("LoadState"), "state": Path("/var/lib/qedge").is_dir()}


STEPS = (
    step_install,
    step_rights,
    step_security,
    step_writes,
    step_reload,
    step_early_hangup,
    step_ends,
    step_people,
    step_watchdog,
    step_stop,
    step_uninstall,
)


def run_steps(steps: Sequence[Callable[[], dict[str, object]]], results: Path, log: Callable[[], str]) -> None:
    """Run all steps; a step that fails leaves its traceback as its result."""
    seen: dict[str, object] = {}
    for step in steps:
        begun = time.monotonic()
        try:
            seen[step.__name__[5:]] = step()
        except Exception:  # noqa: BLE001 - the judge outside shows it
            seen[step.__name__[5:]] = {"failed": traceback.format_exc()}
        print(f"{step.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        (results / "seen.json").write_text(json.dumps(seen, indent=1))
        (results / "journal.txt").write_text(log())
    (results / "done").write_text("")


if __name__ == "__main__":
    run_steps(STEPS, Path(sys.argv[1]), journal)
