"""The scene of the demo that shows quantum key: what an eavesdropper does to it, and what peers do without it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import SHOTS, Facts, Narrator, circuit, require
from qedge.cli.demo.stage import FIBRE, POLICY, TRANSCEIVER
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.node import DriverChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from qedge.cli.demo.stage import DemoNode, Stage
    from qedge.wire.mesh import SessionView
    from qedge.wire.node import LinkView

KEY_LIMIT_S: Final = 150.0
"""The kernels of a link are compiled when a box distils for the first time."""

_LIMIT_S: Final = 40.0
_HELD: Final = ('place="waiting"', 'place="own"', 'place="theirs"')


async def eavesdropper(stage: Stage, narrator: Narrator) -> Facts:
    """Two boxes distil key for their session; an eavesdropper stops it, and each policy does what it says."""
    alice, bob = stage.first, stage.nodes[1]
    await _restart(bob, stage.link_end("bob", alice.name))
    narrator.say(f"{bob.name} gets the other end of the fibre; a first run compiles the kernels of the link")
    view = await _link(bob, lambda link: link.key_bits > 0, "no key came of the link", KEY_LIMIT_S)
    require(0 <= view.qber < 0.03, f"the quiet link has {view.qber:.2%} of errors")
    _tell(narrator, "off", view, f"{view.key_bits / 1e6:.2f} Mbit of secret key so far")
    session = await _session(bob, alice, lambda each: each.extra_key, "the session got no quantum key")
    narrator.say(f"the session of {alice.name} and {bob.name}: {session.group} mixed with quantum key")
    facts: Facts = {"qber_quiet": round(view.qber, 4), "session_quiet": "hybrid"}

    await alice.client.change_driver(TRANSCEIVER, DriverChange(settings={"eve_fraction": 1.0}))
    # The first block that she disturbs may have begun before her.
    noticed = await _link(bob, lambda link: link.state == "quarantined", "the eavesdropper was not noticed", _LIMIT_S)
    view = await _link(bob, lambda link: link.qber >= 0.22, "the eavesdropper makes too few errors", _LIMIT_S)
    require(view.qber <= 0.28, f"with an eavesdropper {view.qber:.2%} of errors, not about 25 %")
    require(view.key_bits == noticed.key_bits, "key came although somebody listens")
    _tell(narrator, "on", view, f"link {view.state}, no key")
    await _without_key(alice, bob)
    narrator.say("what had been distilled before was used, or is destroyed by age: both stores are empty")
    facts |= {"qber_eve": round(view.qber, 4), "state_eve": view.state}

    await _restart(bob)
    session = await _session(bob, alice, lambda each: not each.extra_key, "a session has key that cannot be")
    require(not session.restricted, "policy `prefer` restricted a session")
    await _run_job(alice, bob)
    narrator.say(f"policy prefer: a new session is post-quantum only ({session.group}) and says so; jobs go on")

    await _restart(bob, POLICY.format(policy="require"))
    session = await _session(bob, alice, lambda each: each.restricted, "policy `require` did not refuse")
    waiting = await alice.client.submit(JobSubmission(program=circuit("ghz"), shots=SHOTS, node=bob.name))
    waiting = await alice.client.job(waiting.id, wait_s=1.0)
    require(waiting.state is JobState.QUEUED, f"a job crossed a session without key: {waiting.state}")
    require((await _view(bob)).key_bits == 0, "key came although somebody listens")
    narrator.say("policy require: the session carries nothing but what leads to a key; a job has to wait")
    facts |= {"session_prefer": "post-quantum", "session_require": "restricted"}

    await alice.client.change_driver(TRANSCEIVER, DriverChange(settings={"eve_fraction": 0.0}))
    view = await _link(bob, lambda link: link.key_bits > 0, "no key came after the eavesdropper had left", KEY_LIMIT_S)
    _tell(narrator, "off", view, "key again")
    await _session(bob, alice, lambda each: each.extra_key, "the session did not get its key back")
    done = await alice.client.wait(waiting.id, timeout_s=_LIMIT_S)
    require(done.state is JobState.DONE, f"the job that waited ended as {done.state}")
    narrator.say("the session has quantum key again, and the job that waited is done")
    return facts | {
        "qber_after": round(view.qber, 4),
        "session_after": "hybrid",
        "key_bits_until_eve": noticed.key_bits,
    }


def _tell(narrator: Narrator, eve: str, view: LinkView, outcome: str) -> None:
    narrator.say(f"eavesdropper {eve:3}: {view.qber:6.2%} errors in {view.sifted} sifted bits: {outcome}")


async def _restart(node: DemoNode, more: str = "") -> None:
    """Start a node anew, perhaps with more in its configuration; all its sessions are made anew."""
    await asyncio.to_thread(node.stop)
    node.start(more)
    await node.wait_ready()


async def _run_job(at: DemoNode, on: DemoNode) -> None:
    job = await at.client.submit(JobSubmission(program=circuit("ghz"), shots=SHOTS, node=on.name))
    job = await at.client.wait(job.id, timeout_s=_LIMIT_S)
    require(job.state is JobState.DONE, f"a job on {on.name} ended as {job.state}")


async def _view(node: DemoNode) -> LinkView:
    return next(link for link in (await node.client.status()).links if link.name == FIBRE)


async def _link(node: DemoNode, condition: Callable[[LinkView], bool], sentence: str, limit_s: float) -> LinkView:
    deadline = time.monotonic() + limit_s
    while not condition(view := await _view(node)):
        require(time.monotonic() < deadline, f"{sentence}: {view.state}, {view.reason or 'no reason'}")
        await asyncio.sleep(0.05)
    return view


async def _session(
    node: DemoNode, peer: DemoNode, condition: Callable[[SessionView], bool], sentence: str
) -> SessionView:
    """Wait for an open session of a node with a peer that is as wanted."""
    deadline = time.monotonic() + _LIMIT_S
    while True:
        try:
            peers = (await node.client.peers()).peers
        except QedgeError:
            peers = ()
        for each in peers:
            if each.node == peer.name and each.session.state == "open" and condition(each.session):
                return each.session
        require(time.monotonic() < deadline, sentence)
        await asyncio.sleep(0.05)


async def _without_key(*nodes: DemoNode) -> None:
    """Wait until no store of these nodes holds key of the link, cut or uncut."""
    deadline = time.monotonic() + _LIMIT_S
    for node in nodes:
        while await _held(node):
            require(time.monotonic() < deadline, f"{node.name} has key left that is too old")
            await asyncio.sleep(0.1)
    # Keys that lie ready for sessions are not counted there; they live for a second, and a restart takes longer.


async def _held(node: DemoNode) -> float:
    lines = (await node.client.metrics()).splitlines()
    mine = (line for line in lines if line.startswith("qedge_qkd_key_bits{") and any(place in line for place in _HELD))
    return sum(float(line.rpartition(" ")[2]) for line in mine)
