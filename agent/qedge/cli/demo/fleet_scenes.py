"""The scenes of the demo that need more than one node."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from qedge.cli.demo.scenes import Facts, Narrator, circuit, heavy_program, require
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.node import PingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from qedge.cli.demo.stage import DemoNode, Stage
    from qedge.wire.mesh import PeerView

SHOTS: Final = 1000
LAYERS: Final = 60
"""Enough that the job runs for some seconds, so that its node can be killed under it."""

_SEE_LIMIT_S: Final = 20.0
_JOB_LIMIT_S: Final = 40.0


async def joining(stage: Stage, narrator: Narrator) -> Facts:
    """Two boxes join by invitation; then all see each other, and every word between them is sealed."""
    started = time.monotonic()
    invitations = await stage.invite(len(stage.nodes) - 1)
    narrator.say(f"qedge fleet invite: fleet founded, {stage.first.name} certified, {len(invitations.lines)} lines")
    await asyncio.gather(
        *(stage.join(node, line) for node, line in zip(stage.nodes[1:], invitations.lines, strict=True))
    )
    require(await invitations.finish() == 0, "not all invited boxes joined")
    for node in stage.nodes:
        await _until(node, lambda peers: sum(peer.state == "alive" for peer in peers) == 3, "does not see all three")
    joined_s = time.monotonic() - started
    narrator.say(f"qedge join: all three see each other after {joined_s:.2f} s, births signed with ML-DSA-65")
    others = [node.name for node in stage.nodes[1:]]
    rtt_ms = []
    for name in others:
        view = await stage.first.client.ping(PingRequest(node=name, count=20))
        rtt_ms.append(sorted(view.rtt_ms)[10])
    sessions = {peer.node: peer.session for peer in (await stage.first.client.peers()).peers if not peer.own}
    require(all(session.state == "open" for session in sessions.values()), "a session is not open")
    group = sessions[others[0]].group
    narrator.say(f"sealed sessions: {group}, round trip {min(rtt_ms):.2f} ms over {sessions[others[0]].path}")
    return {"joined_s": round(joined_s, 3), "group": group, "sealed_rtt_ms": round(min(rtt_ms), 3)}


async def everywhere(stage: Stage, narrator: Narrator) -> Facts:
    """The same GHZ circuit on every node, submitted at one of them."""
    client = stage.first.client
    facts: Facts = {}
    for node in stage.nodes:
        where = "" if node is stage.first else node.name
        job = await client.submit(JobSubmission(program=circuit("ghz"), shots=SHOTS, seed=7, node=where))
        job = await client.wait(job.id, timeout_s=_JOB_LIMIT_S)
        require(job.state is JobState.DONE and job.result is not None, f"the job on {node.name} ended as {job.state}")
        counts = job.result.counts if job.result else {}
        require(sum(counts.values()) == SHOTS and set(counts) <= {"0" * 12, "1" * 12}, f"{node.name}: no GHZ state")
        narrator.say(f"{node.name}: {counts.get('0' * 12, 0)} × all 0, {counts.get('1' * 12, 0)} × all 1")
        facts[node.name] = counts.get("0" * 12, 0)
    require(len(set(facts.values())) == 1, "the same seed gave different counts on different nodes")
    return facts


async def node_killed(stage: Stage, narrator: Narrator) -> Facts:
    """A node is killed while it holds a job of another; its peers notice, it comes back, and the job ends."""
    first, victim = stage.first, stage.nodes[-1]
    job = await first.client.submit(
        JobSubmission(program=heavy_program(layers=LAYERS), shots=SHOTS, seed=7, node=victim.name)
    )
    deadline = time.monotonic() + _JOB_LIMIT_S
    while (job := await first.client.job(job.id)).state is JobState.QUEUED:
        require(time.monotonic() < deadline, f"{victim.name} did not begin with the job")
        await asyncio.sleep(0.02)
    require(job.state is JobState.RUNNING, f"the job ended as {job.state} before {victim.name} could be killed")
    victim.kill()
    killed = time.monotonic()
    narrator.say(f"{victim.name} runs job {job.id[-12:]} of {first.name}: killed with signal 9")
    for node in stage.nodes[:-1]:
        await _until(node, lambda peers: _state(peers, victim.name) == "dead", f"takes {victim.name} for alive")
    dead_s = time.monotonic() - killed
    narrator.say(f"its peers call it dead after {dead_s:.2f} s")
    victim.start()
    await victim.wait_ready()
    await _until(first, lambda peers: _state(peers, victim.name) == "alive", f"does not see {victim.name} come back")
    back_s = time.monotonic() - killed
    job = await first.client.wait(job.id, timeout_s=_JOB_LIMIT_S)
    require(job.state is JobState.DONE, f"the job ended as {job.state}")
    narrator.say(f"it is back after {back_s:.2f} s with its database, and the job is done after {_since(killed)}")
    return {"dead_s": round(dead_s, 3), "back_s": round(back_s, 3), "job_s": round(time.monotonic() - killed, 3)}


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.2f} s"


def _state(peers: tuple[PeerView, ...], name: str) -> str:
    return next((str(peer.state) for peer in peers if peer.node == name), "unknown")


async def _until(node: DemoNode, condition: Callable[[tuple[PeerView, ...]], bool], sentence: str) -> None:
    deadline = time.monotonic() + _SEE_LIMIT_S
    while not condition((await node.client.peers()).peers):
        require(time.monotonic() < deadline, f"{node.name} {sentence}")
        await asyncio.sleep(0.05)
