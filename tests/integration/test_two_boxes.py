"""Two boxes, as network namespaces with users of their own, become a fleet by two commands."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from qedge.crypto.joining import Invitation, read_invitation, write_invitation
from tests.integration.daemon_process import BELL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

QEDGE = str(Path(sys.executable).with_name("qedge"))
PASSPHRASE = "a horse that nobody may read of"
ADDRESSES = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}
LIMIT_S = 60.0
CONFIG = """
[node]
name = "{name}"
[log]
level = "debug"
[drivers.qrng]
driver = "sim_qrng"
[engine]
assess_every_s = 0.0
"""
PAUSE_S = 0.5
"""Between two commands that ask for something: each is a process of its own."""


@dataclass
class Box:
    """A node with a home and a user of its own in a network namespace."""

    name: str
    space: str
    user: int
    home: Path
    config: str
    process: subprocess.Popen[bytes] | None = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.home / ".local" / "state" / "qedge"  # said, because the superuser's would be the system's
        (self.home / "run").mkdir(parents=True, mode=0o700)
        self.state.mkdir(parents=True, mode=0o700)
        (self.home / "agent.toml").write_text(self.config)
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, self.user, self.user)
        self.log_path = self.home.parent / f"{self.home.name}.log"

    def command(self, *words: str) -> list[str]:
        """Return the command that runs `qedge` on this box."""
        user = str(self.user)
        return ["ip", "netns", "exec", self.space, *_as_user(user), QEDGE, *words]

    @property
    def environ(self) -> dict[str, str]:
        """What a login of the user would give."""
        return {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run"), "PATH": os.environ["PATH"]}

    def start(self) -> None:
        """Start the daemon and return at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(
                    "run", "--quiet", "--config", str(self.home / "agent.toml"), "--state-dir", str(self.state)
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=self.home,
            )

    def wait_up(self) -> None:
        """Wait until the daemon answers."""
        poll((self.state / "run" / "qedge.sock").exists, self.log, pause_s=0.05)
        poll(lambda: self.run("status").returncode == 0, self.log)

    def log(self) -> str:
        """Return the last of what the daemon wrote."""
        return self.log_path.read_text()[-3000:]

    def stop(self) -> None:
        """Stop the daemon."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def run(self, *words: str, told: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end and keep what it said."""
        done = subprocess.run(
            self.command(*words),
            input=told,
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=self.home,
            timeout=120,
            check=False,
        )
        self.said += [done.stdout, done.stderr]
        return done

    def sees_alive(self, other: str) -> bool:
        """Say whether this box holds another one to be alive."""
        peers = json.loads(self.run("peers", "--json").stdout)["peers"]
        return any(peer["node"] == other and peer["state"] == "alive" for peer in peers)

    def seeds(self) -> list[bytes]:
        """Return the private keys in this box's database."""
        (path,) = self.home.rglob("qedge.sqlite3")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return [seed for (seed,) in connection.execute("SELECT seed FROM identities")]


@dataclass
class Story:
    """What happened, for the tests to judge."""

    alpha: Box
    beta: Box
    gamma: Box
    lines: list[str]
    join_s: float
    outcomes: dict[str, subprocess.CompletedProcess[str]]
    arguments_seen: set[bytes]
    invite_said: str = ""


def _as_user(user: str) -> list[str]:
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]


def first_user() -> int:
    """Return a user id that exists only as a number, or 0 where such a user cannot run this interpreter."""
    probe = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import qedge'], check=True)"
    done = subprocess.run([*_as_user("61001"), sys.executable, "-c", probe], check=False, capture_output=True)
    return 61_001 if done.returncode == 0 else 0


def poll(holds: Callable[[], bool], why: Callable[[], str] = str, pause_s: float = PAUSE_S) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(pause_s)


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def two_networks() -> Iterator[dict[str, str]]:
    """Lay a cable between two network namespaces; skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None or shutil.which("setpriv") is None:
        pytest.skip("ip (iproute2) and setpriv (util-linux) are needed")
    spaces = {name: f"qedge-{os.getpid()}-{name}" for name in ADDRESSES}
    a, b = spaces.values()
    try:
        try:
            for space in spaces.values():
                ip("netns", "add", space)
            ip("-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b)
            for name, space in spaces.items():
                ip("-n", space, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "cable")
                ip("-n", space, "link", "set", "lo", "up")
                ip("-n", space, "link", "set", "cable", "up")
            ip("netns", "exec", a, "true")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not to be had: {error.stderr.decode(errors='replace').strip()}")
        yield spaces
    finally:
        for space in spaces.values():
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Let it happen: start the boxes, invite, join, and try what has to be refused."""
    folder = Path(tempfile.mkdtemp(prefix="qedge-boxes-"))
    folder.chmod(0o755)
    boxes: list[Box] = []
    try:
        with two_networks() as spaces, contextlib.ExitStack() as cleaning:
            user = first_user()
            listen = f'[broker]\nlisten = "{ADDRESSES["alpha"]}:1883"\n[drivers.qpu]\ndriver = "sim_qpu"\n'
            for number, (name, space, extra) in enumerate(
                (("alpha", "alpha", listen), ("beta", "beta", ""), ("gamma", "beta", ""))
            ):
                config = CONFIG.format(name=name) + extra
                boxes.append(Box(name, spaces[space], user + number if user else 0, folder / name, config))
            for box in boxes:
                cleaning.callback(box.stop)
                box.start()
            for box in boxes:
                box.wait_up()
            yield _happen(boxes[0], boxes[1], boxes[2], cleaning)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _happen(alpha: Box, beta: Box, gamma: Box, cleaning: contextlib.ExitStack) -> Story:
    for box in (alpha, beta):
        secret = box.home / "passphrase"
        secret.write_text(PASSPHRASE + "\n")
        secret.chmod(0o400)
        os.chown(secret, box.user, box.user)
    outcomes = {"loopback": beta.run("fleet", "invite", "--passphrase-file", "passphrase")}

    complaint = alpha.home.parent / "invite.err"
    with complaint.open("w") as errors:
        invite = subprocess.Popen(
            alpha.command("fleet", "invite", "--count", "3", "--passphrase-file", "passphrase"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=alpha.environ,
            cwd=alpha.home,
        )
    cleaning.callback(_end, invite)
    assert invite.stdout is not None
    lines = [invite.stdout.readline().strip() for _ in range(3)]
    assert all(lines), complaint.read_text()

    outcomes["cut"] = beta.run("join", told=lines[0][:-9] + "\n")
    outcomes["noise"] = beta.run("join", told="qedge1:" + lines[0][8:] + "\n")
    seen: set[bytes] = set()
    began = time.monotonic()
    joining = subprocess.Popen(
        beta.command("join"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=beta.environ,
        cwd=beta.home,
    )
    assert joining.stdin is not None
    joining.stdin.write(lines[0] + "\n")
    joining.stdin.flush()
    while joining.poll() is None and time.monotonic() < began + LIMIT_S:
        seen |= _arguments()
        time.sleep(0.02)
    said, complained = joining.communicate(timeout=10)
    beta.said += [said, complained]
    outcomes["join"] = subprocess.CompletedProcess(["join"], joining.returncode, said, complained)
    poll(lambda: alpha.sees_alive("beta") and beta.sees_alive("alpha"), beta.log)
    join_s = time.monotonic() - began
    print(f"two boxes see each other {join_s:.2f} s after `qedge join`")

    outcomes["used"] = gamma.run("join", told=lines[0] + "\n")
    outcomes["taken"] = gamma.run("join", "--name", "beta", told=lines[1] + "\n")
    outcomes["pin"] = gamma.run("join", told=_other_pin(lines[2]) + "\n")
    _end(invite)
    return Story(alpha, beta, gamma, lines, join_s, outcomes, seen, complaint.read_text())


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _arguments() -> set[bytes]:
    """Return the arguments of all processes, as `ps` shows them."""
    found: set[bytes] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes())
    return found


def _other_pin(line: str) -> str:
    invitation = read_invitation(line)
    return write_invitation(msgspec.structs.replace(invitation, pin=bytes(32)))


def test_two_commands_make_a_fleet_of_two_boxes(story: Story) -> None:
    joined = story.outcomes["join"]
    assert joined.returncode == 0, joined.stderr
    assert "beta is a member of fleet home; it sees alpha." in joined.stdout
    print(f"two boxes see each other {story.join_s:.2f} s after `qedge join`")
    assert story.alpha.sees_alive("beta")
    assert story.beta.sees_alive("alpha")


def test_a_job_of_one_box_runs_on_the_other(story: Story) -> None:
    done = story.beta.run("submit", "-", "--node", "alpha", "--shots", "100", "--json", told=BELL)
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout.splitlines()[-1])
    assert (job["state"], job["node"]) == ("done", "alpha")
    assert sum(job["result"]["counts"].values()) == 100


def test_the_boxes_reach_each_other_directly(story: Story) -> None:
    def path(box: Box, other: str) -> str:
        done = box.run("ping", other, "--count", "2", "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["path"])

    for box, other in ((story.alpha, "beta"), (story.beta, "alpha")):
        poll(lambda box=box, other=other: path(box, other) == "direct")  # type: ignore[misc] # bound at once


@pytest.mark.parametrize(
    ("which", "fix"),
    [
        ("loopback", 'Set listen = "ADDRESS:1883"'),
        ("cut", "Copy the whole line"),
        ("noise", "Copy the whole line"),
        ("used", "Have a new one made"),
        ("taken", "--name"),
        ("pin", "make a new invitation"),
    ],
)
def test_what_is_refused_says_how_to_mend_it(story: Story, which: str, fix: str) -> None:
    outcome = story.outcomes[which]
    assert outcome.returncode != 0
    assert fix in outcome.stderr, outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_reason_of_a_refusal_is_told(story: Story) -> None:
    assert "Other boxes cannot reach the broker of this node" in story.outcomes["loopback"].stderr
    assert "was used" in story.outcomes["used"].stderr
    assert "beta" in story.outcomes["taken"].stderr
    assert "of another fleet than the invitation" in story.outcomes["pin"].stderr


def test_a_box_that_was_refused_is_a_fleet_of_one_as_before(story: Story) -> None:
    status = json.loads(story.gamma.run("status", "--json").stdout)
    assert status["standalone"]
    assert not story.alpha.sees_alive("gamma")


def test_no_secret_is_in_a_log_an_argument_or_an_output(story: Story) -> None:
    boxes = (story.alpha, story.beta, story.gamma)
    invitations: list[Invitation] = [read_invitation(line) for line in story.lines]
    secrets = [PASSPHRASE.encode(), *(line.encode() for line in story.lines), *(each.secret for each in invitations)]
    secrets += [each.broker.password.encode() for each in invitations if each.broker.password]
    for box in boxes:
        secrets += box.seeds()
    shown = [*secrets, *(each.hex().encode() for each in secrets), *(base64.b64encode(each) for each in secrets)]
    places: dict[str, bytes] = {"arguments": b"\n".join(story.arguments_seen), "invite": story.invite_said.encode()}
    for box in boxes:
        places[f"log of {box.name}"] = box.log_path.read_bytes()
        places[f"output of {box.name}"] = "\n".join(box.said).encode()
    assert len(story.beta.seeds()) >= 1
    assert all(places.values())
    for where, text in places.items():
        for number, secret in enumerate(shown):
            assert secret not in text, f"secret {number % len(secrets)} is in the {where}"
    assert any(b"join" in each for each in story.arguments_seen), "the joining was not watched"
