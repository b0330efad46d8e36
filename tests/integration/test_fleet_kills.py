"""Real daemons are killed, and lose their broker, at every state of every kind of command.

`halting_daemon.py` stops the process at the instant, so that nothing moves until it is struck from outside. What was
done is counted in the world: restarts, requests to other programs, drivers, keys, configurations, the audit log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from qedge.daemon.fleet.executors import KINDS
from qedge.wire.command_kinds import CertificateAsk, DrainCommand, DriverCommand, LogAsk
from qedge.wire.commands import CancelCommand, CommandReport
from tests.integration.change_plays import (
    ApplyPlay,
    RollbackPlay,
    StagePlay,
    UpdatePlay,
    begin_anew,
    left_of,
    wipe_order,
)
from tests.integration.command_plays import (
    INSTANTS,
    BenchmarkPlay,
    CancelPlay,
    CertificateRequestPlay,
    CertificateTakePlay,
    DevicePlay,
    DiagnosticsPlay,
    DoctorPlay,
    DrainPlay,
    DriverPlay,
    LogsPlay,
    Play,
    PolicyPlay,
    RestartAgentPlay,
    RestartHostPlay,
    RestartWorkerPlay,
    RevocationPlay,
    SelfTestPlay,
    SnapshotPlay,
)
from tests.integration.kill_stage import LIMIT_S, NODE, KillStage, beside, kill_stage
from tests.integration.operator_desk import ENDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PLAYS: dict[str, type[Play]] = {
    play.kind: play
    for play in (
        RestartAgentPlay,
        RestartHostPlay,
        RestartWorkerPlay,
        DrainPlay,
        DriverPlay,
        PolicyPlay,
        RevocationPlay,
        DevicePlay,
        CertificateRequestPlay,
        CertificateTakePlay,
        LogsPlay,
        SelfTestPlay,
        BenchmarkPlay,
        DiagnosticsPlay,
        DoctorPlay,
        SnapshotPlay,
        StagePlay,
        ApplyPlay,
        RollbackPlay,
        UpdatePlay,
        CancelPlay,
    )
}
WIPE = "wipe"
_DICE = random.Random(8)
SHORT_KILL = ("drain", _DICE.sample(INSTANTS[4:], 2))


def cases(short: tuple[str, Sequence[str]] | None = None) -> list[object]:
    """Return a short case if any, and all kinds with all their instants for the long run."""
    every = [pytest.param(kind, play.instants, id=kind, marks=pytest.mark.long) for kind, play in sorted(PLAYS.items())]
    return [pytest.param(*short, id="short"), *every] if short else every


def test_every_kind_of_command_is_struck() -> None:
    assert {*PLAYS, WIPE} == {*(each.kind for each in KINDS), "cancel"}


@pytest.mark.parametrize(("kind", "instants"), cases(SHORT_KILL))
async def test_a_daemon_killed_at_any_state_ends_the_command_once_or_says_why_not(
    tmp_path: Path, kind: str, instants: Sequence[str]
) -> None:
    async with kill_stage(tmp_path) as stage:
        play = await begin(stage, kind)
        for instant in instants:
            report = await strike(stage, play, instant, cut=False)
            expected = "failed" if instant in play.fails else "successful"
            assert report.state == expected or (kind == "cancel" and report.code == "order.ended"), said(report)


@pytest.mark.parametrize(("kind", "instants"), cases())
async def test_a_command_is_done_once_though_the_broker_dies_at_any_of_its_states(
    tmp_path: Path, kind: str, instants: Sequence[str]
) -> None:
    async with kill_stage(tmp_path) as stage:
        play = await begin(stage, kind)
        for instant in instants:
            report = await strike(stage, play, instant, cut=True)
            assert report.state == "successful", said(report)


@pytest.mark.long
@pytest.mark.parametrize("blow", ["none", "kill", "cut"])
async def test_of_a_hundred_commands_at_once_one_hangs_and_all_others_end_once(tmp_path: Path, blow: str) -> None:
    async with kill_stage(tmp_path) as stage:
        await stage.open()
        hanging = await stage.desk.send(NODE, "restart-host")
        request = stage.home / "requests" / "restart-host"
        async with asyncio.timeout(LIMIT_S):
            while not request.exists():
                await asyncio.sleep(0.02)
        request.unlink()  # taken, and the system does not restart
        dice = random.Random(100)
        crowd: tuple[tuple[str, msgspec.Struct | None], ...] = (
            ("logs", LogAsk(lines=3)),
            ("drain", DrainCommand(undo=True)),
            ("driver", DriverCommand("qrng", "unlocked")),
            ("config-snapshot", None),
            ("certificate-request", CertificateAsk()),
            ("no-such-kind", None),
        )
        commands = [await stage.desk.send(NODE, *dice.choice(crowd)) for _ in range(100)]
        async with asyncio.timeout(LIMIT_S):
            while sum(bool(stage.ends(each)) for each in commands) < 30:
                await asyncio.sleep(0.01)
        if blow == "kill":
            stage.kill()
        elif blow == "cut":
            stage.world.broker.kill()
            stage.world.broker.start()
            await stage.sit_down()
        for command in commands:
            report = await stage.end(command)
            assert report.state == "successful" or report.code == "order.unknown_kind", said(report)
        if blow != "kill":
            assert not stage.ends(hanging)
            assert (await stage.ordered("cancel", CancelCommand(hanging))).state == "successful"
        assert (await stage.end(hanging)).code == ("order.failed" if blow == "kill" else "order.cancelled")
        for command in (hanging, *commands):
            assert len(stage.ends(command)) == 1
            assert {*ENDS, "refused"} & set(stage.audited(command))


@pytest.mark.long
async def test_a_daemon_killed_at_any_state_of_its_wiping_leaves_nothing(tmp_path: Path) -> None:
    async with kill_stage(tmp_path) as stage:
        await stage.open()
        for instant in INSTANTS:
            command = await struck_while_wiped(stage, instant)
            told = stage.desk.reports[command]
            # its last word may die with it; what was told before says that it had begun
            assert told[-1].state in ("executing", "successful"), said(told[-1])
            assert {each.state for each in told} & set(ENDS) <= {"successful"}
            await begin_anew(stage)


async def struck_while_wiped(stage: KillStage, instant: str) -> str:
    """Order the wiping, kill the daemon at an instant of it, and wait until nothing is left; returns the id."""
    request = stage.desk.request(NODE, WIPE, wipe_order())
    stage.arm(instant, request.id)
    await stage.send(request, 1)
    await stage.halted()
    stage.kill()
    async with asyncio.timeout(LIMIT_S):
        # after the mark a daemon that is started removes everything and begins as a new box
        while stage.seen("daemon.wiped") == 0:
            await asyncio.sleep(0.05)
    if stage.daemon.is_alive() and instant not in ("done", "ended", "told"):
        await asyncio.to_thread(stage.daemon.process.wait, LIMIT_S)  # type: ignore[union-attr] # it is there
        assert left_of(stage) == set()
    await stage.publish(request, b"")  # or it would be done to the next box of this name
    return request.id


async def begin(stage: KillStage, kind: str) -> Play:
    """Open the stage for a kind of command."""
    play = PLAYS[kind](stage)
    stage.config += play.config
    await stage.open()
    await play.prepare()
    return play


async def strike(stage: KillStage, play: Play, instant: str, *, cut: bool) -> CommandReport:
    """Order something, strike at an instant, and see that it ends once, whatever comes again; returns its end."""
    play.turn += 1
    play.instant = instant
    arguments = await play.arguments()
    request, before = stage.desk.request(NODE, play.kind, arguments), play.effects()
    stage.arm(play.done if instant == "done" else instant, request.id)
    async with beside(play.world()):
        order = await stage.send(request)
        await stage.halted()
        if cut:
            await stage.cut()
            if instant == "done":
                await play.after_cut()
        else:
            play.before_kill()
            stage.kill()
        report = await stage.end(request.id)
        await come_again(stage, request.id, lambda: stage.publish(request, order))
    if report.state == "successful":
        await play.check(report)
    did = play.effects() - before
    struck = play.by_kill and not cut
    if play.counted:
        assert did == 1 or (did == 0 and (struck or report.state == "failed")), (play.kind, instant, did)
    assert stage.ends(request.id) == {(report.state, report.code, report.revision)}
    assert report.state == "successful" or (report.code and report.reason)
    audited = stage.audited(request.id)
    assert "accepted" in audited, (play.kind, instant, audited)
    assert [each for each in audited if each in ENDS] == [report.state], (play.kind, instant, audited)
    return report


async def come_again(stage: KillStage, command: str, publish: Callable[[], Awaitable[None]]) -> None:
    """Have the same request come once more: it changes nothing, and others go on."""
    assert (await stage.ordered("logs")).state == "successful"
    once = await stage.ask(lambda client: client.fleet.order(command))
    await publish()
    assert (await stage.ordered("logs")).state == "successful"
    assert await stage.ask(lambda client: client.fleet.order(command)) == once


def said(report: CommandReport) -> str:
    """Say how a command stands."""
    return f"{report.state} {report.code} {report.reason}"
