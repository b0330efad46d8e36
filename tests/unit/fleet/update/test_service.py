"""The command `software-update`: handed to the updater once, and told truly, whatever is restarted in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.fleet.commands.ports import AfterCrash, Executor
from qedge.fleet.update.course import Course
from qedge.fleet.update.disk import REQUEST
from qedge.fleet.update.fake import Behaviour, FakeMachine, fake_verify
from qedge.fleet.update.service import KIND, SoftwareUpdateExecutor
from qedge.wire.commands import CommandRequest, OperatorRole
from qedge.wire.update import Outcome, SoftwareUpdate, SoftwareUpdated, UpdateReport
from tests.unit.fleet.update.bundles import Site, digest_of, make, make_site

ID = "01a22473-14f9-7ca5-b6d0-6f6a6221a79e"


def _executor(site: Site, clock: ManualClock | None = None, *, stopping: bool = True) -> SoftwareUpdateExecutor:
    return SoftwareUpdateExecutor(
        site.disk.layout,
        version="0.1.0",
        python="3.11",
        platform="linux-x86_64",
        clock=clock or ManualClock(),
        stopping=lambda: stopping,
    )


def _request(order: msgspec.Struct | bytes, number: str = ID) -> CommandRequest:
    arguments = order if isinstance(order, bytes) else msgspec.msgpack.encode(order)
    return CommandRequest(number, "fleet", "node", KIND, 1, 1, 2, arguments)


def _order(bundle: Path, version: str = "0.2.0") -> SoftwareUpdate:
    return SoftwareUpdate(version, str(bundle), digest_of(bundle), bundle.stat().st_size)


class Told:
    """Keeps what an executor tells of its progress."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.shares: list[float] = []

    async def __call__(self, step: str, share: float) -> None:
        self.steps.append(step)
        self.shares.append(share)


def _update(site: Site, behaviour: Behaviour = Behaviour.WELL) -> UpdateReport | None:
    machine = FakeMachine(site.disk, {"0.2.0": behaviour})
    machine.boot()
    return Course(site.disk, machine, fake_verify, lambda _line: None).run()


async def _wait_for_request(site: Site) -> None:
    while not (site.disk.layout.staging / REQUEST).exists():
        await asyncio.sleep(0.01)


async def test_an_order_is_handed_over_and_its_end_told(tmp_path: Path) -> None:
    site, told = make_site(tmp_path), Told()
    executor: Executor = _executor(site)
    request = _request(_order(make(tmp_path, site.secret)))
    executor.check(request)
    task = asyncio.create_task(executor.run(request, told))
    await _wait_for_request(site)
    report = await asyncio.to_thread(_update, site)
    assert report is not None
    assert report.id == ID
    result = await task
    assert isinstance(result, SoftwareUpdated)
    assert (result.version, result.previous) == ("0.2.0", "0.1.0")
    assert told.steps[:3] == ["fetching", "checking", "handed over"]
    assert told.shares == sorted(told.shares)


async def test_the_daemon_that_is_restarted_in_the_middle_neither_asks_again_nor_fetches(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    bundle = make(tmp_path, site.secret)
    request = _request(_order(bundle))
    first = asyncio.create_task(_executor(site).run(request, Told()))
    await _wait_for_request(site)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.to_thread(_update, site)
    bundle.unlink()
    after = _executor(site)
    recovered = await after.recover(request)
    assert not recovered.go_on
    assert isinstance(recovered.result, SoftwareUpdated)
    assert isinstance(await after.run(request, Told()), SoftwareUpdated)
    assert not (site.disk.layout.staging / REQUEST).exists()


async def test_an_order_that_is_cancelled_before_anybody_took_it_changes_nothing_some_other_day(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    request = _request(_order(make(tmp_path, site.secret)))
    task = asyncio.create_task(_executor(site, stopping=False).run(request, Told()))
    await _wait_for_request(site)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not (site.disk.layout.staging / REQUEST).exists()
    assert await asyncio.to_thread(_update, site) is None


async def test_a_daemon_that_starts_before_the_verdict_waits_for_it(tmp_path: Path) -> None:
    site, told = make_site(tmp_path), Told()
    bundle = make(tmp_path, site.secret)
    site.ask(bundle, ID)
    request_file = site.disk.read_request()
    assert request_file is not None
    machine = FakeMachine(site.disk, {})
    course = Course(site.disk, machine, fake_verify, lambda _line: None)
    journal = course._begin(request_file)
    executor, request = _executor(site), _request(_order(bundle))
    assert (await executor.recover(request)).go_on
    task = asyncio.create_task(executor.run(request, told))
    while "requested" not in told.steps:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(course.finish, journal)
    assert isinstance(await task, SoftwareUpdated)
    assert "fetching" not in told.steps


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [(Behaviour.HANGS, "update.rolled_back"), (Behaviour.WRONG_CONFIGURATION, "update.not_built")],
)
async def test_an_update_that_failed_fails_the_command_with_its_reason(
    tmp_path: Path, behaviour: Behaviour, code: str
) -> None:
    site = make_site(tmp_path)
    request = _request(_order(make(tmp_path, site.secret)))
    task = asyncio.create_task(_executor(site).run(request, Told()))
    await _wait_for_request(site)
    await asyncio.to_thread(_update, site, behaviour)
    with pytest.raises(QedgeError) as caught:
        await task
    assert caught.value.code == code
    with pytest.raises(QedgeError) as again:
        await _executor(site).recover(request)
    assert again.value.code == code


async def test_the_report_of_an_earlier_order_is_not_taken_for_this_one(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.disk.write_report(UpdateReport("earlier", Outcome.KEPT, "0.2.0", "0.1.0", 1))
    assert (await _executor(site).recover(_request(_order(make(tmp_path, site.secret))))).go_on


@pytest.mark.parametrize(
    ("version", "made", "code"),
    [("0.3.0", "0.2.0", "update.bad_bundle"), ("0.0.1", "0.0.1", "update.not_for_here")],
)
async def test_what_the_updater_would_refuse_is_refused_before(
    tmp_path: Path, version: str, made: str, code: str
) -> None:
    site = make_site(tmp_path)
    bundle = make(tmp_path, site.secret, made, minimum_previous="0.0")
    with pytest.raises(QedgeError) as caught:
        await _executor(site).run(_request(_order(bundle, version)), Told())
    assert caught.value.code == code
    assert not (site.disk.layout.staging / REQUEST).exists()


async def test_a_request_that_nobody_takes_up_is_taken_back(tmp_path: Path) -> None:
    site, clock = make_site(tmp_path), ManualClock()
    task = asyncio.create_task(_executor(site, clock).run(_request(_order(make(tmp_path, site.secret))), Told()))
    await _wait_for_request(site)
    await asyncio.sleep(0.05)
    clock.advance_s(61)
    with pytest.raises(QedgeError) as caught:
        await task
    assert caught.value.code == "update.no_updater"
    assert not (site.disk.layout.staging / REQUEST).exists()


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"\xff" * 50,
        SoftwareUpdate("1.0 ", "/x", "0" * 64, 1),
        SoftwareUpdate("1.0", "ftp://x/y", "0" * 64, 1),
        SoftwareUpdate("1.0", "relative", "0" * 64, 1),
        SoftwareUpdate("1.0", "/x", "0" * 63, 1),
        SoftwareUpdate("1.0", "/x", "0" * 64, 2**40),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_done(
    tmp_path: Path, order: SoftwareUpdate | bytes
) -> None:
    with pytest.raises(QedgeError) as caught:
        _executor(make_site(tmp_path)).check(_request(order))
    assert caught.value.code == "order.bad_arguments"


@pytest.mark.parametrize(("link", "code"), [("current", "update.no_slots"), ("kept", "update.no_updater")])
def test_a_box_that_cannot_be_updated_says_so_before_anything_is_done(tmp_path: Path, link: str, code: str) -> None:
    site = make_site(tmp_path)
    (site.disk.layout.root / link).unlink()
    with pytest.raises(QedgeError) as caught:
        _executor(site).check(_request(SoftwareUpdate("0.2.0", "/x", "0" * 64, 1)))
    assert caught.value.code == code


def test_the_kind_is_what_operators_order(tmp_path: Path) -> None:
    executor = _executor(make_site(tmp_path))
    assert (executor.kind, executor.lane, executor.role) == ("software-update", "update", OperatorRole.OPERATOR)
    assert (executor.after_crash, executor.two_persons) == (AfterCrash.CHECK, False)
    assert executor.time_limit_s > 0
