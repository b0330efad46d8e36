"""Receipts: what a runner signed for a result can be checked by anybody, and nothing else passes for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.fake import FakeQpu
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.receipts import rows
from qedge.orchestrator.receipts.proof import check, job_hash, sign_root
from qedge.orchestrator.receipts.service import ReceiptService, Seal
from qedge.orchestrator.receipts.tree import leads_to, leaf_of, root_and_paths
from qedge.wire.jobs import JobResult, JobView
from qedge.wire.receipts import ReceiptPath, ReceiptRoot, ReceiptsKeep
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite


class Signers:
    """Two nodes of a fleet, an origin without a QPU and a runner, with receipts beside their ledgers."""

    def __init__(self, site: EngineSite) -> None:
        self.site = site
        self.fleet = ThrowAwayFleet("fleet")
        self.seals: dict[str, Seal] = {}
        self.threads: list[CryptoThread] = []

    async def node(self, name: str, qpu: FakeQpu | None = None) -> tuple[EngineNode, ReceiptService]:
        node = await self.site.node(name, qpu)
        self.seals[name] = Seal("fleet", name, *self.fleet.member(name), self.fleet.trust())
        self.threads.append(CryptoThread())
        service = ReceiptService(
            self.seals[name], node.store, node.peers, self.threads[-1], clock=SystemClock(), metrics=Metrics()
        )
        node.ledger.errands.given = service.given
        return node, service


@pytest.fixture
async def signers(tmp_path: Path) -> AsyncIterator[Signers]:
    made = Signers(EngineSite(tmp_path))
    yield made
    await made.site.close()
    for thread in made.threads:
        thread.close()


@contextmanager
def refused(code: str) -> Iterator[None]:
    """Expect an error with this code, or of this room."""
    with pytest.raises(QedgeError) as found:
        yield
    assert found.value.code.startswith(code)


async def with_receipt(node: EngineNode, service: ReceiptService, job_id: str) -> JobView:
    return msgspec.structs.replace(await node.desk.job(job_id), receipt=await service.receipt(job_id))


async def done_elsewhere(signers: Signers, jobs: int = 3) -> tuple[list[JobView], EngineNode, ReceiptService]:
    """Run jobs of node a at node b, have b sign them, and return them as a shows them."""
    a, at_a = await signers.node("a")
    _, at_b = await signers.node("b", FakeQpu("b"))
    submitted = [await a.submit(f"p{number}", node="any") for number in range(jobs)]
    for each in submitted:
        await a.end(each.id)
    async with asyncio.timeout(30):
        while len(at_b._given) < jobs:
            await asyncio.sleep(0.01)
    await at_b.sign()
    return [await with_receipt(a, at_a, each.id) for each in submitted], a, at_a


async def test_a_result_of_another_node_comes_with_what_that_node_signed(signers: Signers) -> None:
    jobs, _, _ = await done_elsewhere(signers)
    for job in jobs:
        receipt = check(job, signers.fleet.trust())
        assert (receipt.runner, receipt.epoch) == ("b", job.epoch)
    again = msgspec.json.decode(msgspec.json.encode(jobs[0]), type=JobView)
    assert check(again, signers.fleet.trust()) == jobs[0].receipt


async def test_all_results_of_a_moment_share_one_signature_and_one_chain(signers: Signers) -> None:
    jobs, a, _ = await done_elsewhere(signers, 5)
    assert len({job.receipt.signed for job in jobs if job.receipt is not None}) == 1
    counts = await a.store.read(
        lambda connection: [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - constant
            for table in ("receipts", "receipt_roots", "receipt_chains")
        ]
    )
    assert counts == [5, 1, 1]


async def test_a_changed_result_job_or_lease_has_no_valid_receipt(signers: Signers) -> None:
    jobs, _, _ = await done_elsewhere(signers)
    job, other, trust = jobs[0], jobs[1], signers.fleet.trust()
    assert job.result is not None
    assert job.receipt is not None
    changed = msgspec.structs.replace
    forged = [
        changed(job, result=changed(job.result, counts={"11": 10})),
        changed(job, id=other.id),
        changed(job, receipt=changed(job.receipt, epoch=job.epoch + 1)),
        changed(job, receipt=changed(job.receipt, job_hash=bytes(32))),
        changed(job, receipt=changed(job.receipt, path=job.receipt.path[:-1])),
        changed(job, result=other.result, receipt=changed(job.receipt, position=other.receipt.position)),  # type: ignore[union-attr]
    ]
    for each in forged:
        with refused("job.bad_receipt"):
            check(each, trust)


async def test_a_receipt_is_worth_nothing_under_another_name_fleet_or_key(signers: Signers) -> None:
    jobs, _, _ = await done_elsewhere(signers, 1)
    job, receipt = jobs[0], jobs[0].receipt
    assert receipt is not None
    named = msgspec.structs.replace(job, receipt=msgspec.structs.replace(receipt, runner="c"))
    with pytest.raises(QedgeError):
        check(named, signers.fleet.trust())
    with refused("auth."):
        check(job, ThrowAwayFleet("fleet").trust())
    spoilt = receipt.signed[:-1] + bytes([receipt.signed[-1] ^ 1])
    with refused("auth.bad_signature"):
        check(
            msgspec.structs.replace(job, receipt=msgspec.structs.replace(receipt, signed=spoilt)), signers.fleet.trust()
        )


async def test_what_a_peer_signs_for_results_of_others_or_for_other_results_is_not_kept(signers: Signers) -> None:
    jobs, _, at_a = await done_elsewhere(signers, 1)
    job = jobs[0]
    assert job.receipt is not None
    at_c = Seal("fleet", "c", *signers.fleet.member("c"), signers.fleet.trust())
    kept = job.receipt

    def said(seal: Seal, leaf: bytes) -> ReceiptsKeep:
        signed = sign_root(ReceiptRoot(leaf, 1), seal.fleet, seal.node, seal.key, seal.chain, job.ended_utc_ns)
        return ReceiptsKeep(signed, (ReceiptPath(job.id, job.epoch, 0, ()),))

    assert (await at_a._keep("b", said(signers.seals["b"], leaf_of(b"another result")))).refused == (job.id,)
    assert (await at_a._keep("c", said(at_c, leaf_of(b"x")))).refused == (job.id,)
    with pytest.raises(QedgeError):
        await at_a._keep("b", said(at_c, leaf_of(b"x")))
    assert await at_a.receipt(job.id) == kept


async def test_a_result_without_a_receipt_says_so_and_receipts_go_with_their_jobs(signers: Signers) -> None:
    jobs, a, at_a = await done_elsewhere(signers, 1)
    with refused("job.no_receipt"):
        check(msgspec.structs.replace(jobs[0], receipt=None), signers.fleet.trust())
    await a.store.write(lambda connection: connection.execute("DELETE FROM jobs"))
    await a.store.write(rows.prune)
    assert await a.store.read(lambda connection: rows.find(connection, jobs[0].id)) is None
    assert await at_a.receipt(jobs[0].id) is None


async def test_a_runner_that_sends_a_receipt_again_and_again_fills_no_disk(signers: Signers) -> None:
    jobs, a, at_a = await done_elsewhere(signers)
    receipt = jobs[0].receipt
    assert receipt is not None
    again = ReceiptsKeep(receipt.signed, (ReceiptPath(jobs[0].id, receipt.epoch, receipt.position, receipt.path),))
    for _ in range(5):
        assert (await at_a._keep("b", again)).refused == ()
    roots = await a.store.read(
        lambda connection: connection.execute("SELECT count(*) FROM receipt_roots").fetchone()[0]
    )
    assert roots == 1


async def test_an_owner_that_cannot_be_reached_gets_its_receipts_later(signers: Signers) -> None:
    a, at_a = await signers.node("a")
    _, at_b = await signers.node("b", FakeQpu("b"))
    job = await a.end((await a.submit(node="any")).id)
    signers.site.network.lose_answer = lambda _caller, _callee, what: what == "receipts-keep/1"
    await at_b.sign()
    assert [(each.job_id, each.tries, each.result) for each in at_b._given] == [(job.id, 1, None)]
    signers.site.network.lose_answer = lambda *_: False
    await at_b.sign()
    check(await with_receipt(a, at_a, job.id), signers.fleet.trust())


async def test_an_owner_that_does_not_answer_holds_up_no_receipts_of_others(signers: Signers) -> None:
    a, at_a = await signers.node("a")
    c, _ = await signers.node("c")
    _, at_b = await signers.node("b", FakeQpu("b"))
    silent, job = await c.submit("p", node="any"), await a.submit("p", node="any")
    await c.end(silent.id)
    await a.end(job.id)
    signers.site.network.mute.add("c")
    running = asyncio.create_task(at_b.run(lambda: None))
    await asyncio.sleep(1.2)  # the first round, which waits for c
    later = await a.submit("q", node="any")
    await a.end(later.id)
    async with asyncio.timeout(3.0):
        while await at_a.receipt(later.id) is None:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_receipts_that_are_too_many_to_be_signed_are_counted(
    signers: Signers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.orchestrator.receipts.service._MOST_WAITING", 2)
    _, service = await signers.node("a")
    result = JobResult({"0": 1}, 1, 1, (), {}, {})
    for number in range(5):
        service.given("b", f"job-{number}", 1, bytes(32), result)
    assert len(service._given) == 2
    assert service._given[0].job_id == "job-3"
    assert service._metrics.value("qedge_receipts_total", ("dropped",)) == 3


def test_where_a_job_was_to_run_and_under_which_key_makes_no_difference_to_its_hash() -> None:
    from qedge.wire.jobs import JobSubmission

    asked = JobSubmission(program="p", seed=7, node="any", client_key="mine")
    assert job_hash(asked) == job_hash(JobSubmission(program="p", seed=7))
    assert job_hash(asked) != job_hash(JobSubmission(program="p", seed=8))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 64, 100])
def test_each_leaf_of_a_tree_leads_to_its_root_and_no_other_does(count: int) -> None:
    leaves = [leaf_of(bytes([number])) for number in range(count)]
    root, paths = root_and_paths(leaves)
    for at, path in enumerate(paths):
        assert leads_to(root, leaves[at], at, count, path)
        assert not leads_to(root, leaf_of(b"other"), at, count, path)
        assert not leads_to(root, leaves[at], at, count, (*path, root))
        assert not leads_to(root, leaves[at], count, count, path)


def test_a_tree_is_that_of_rfc_9162() -> None:
    # the empty string as the only entry, and two entries, worked out by hand from section 2.1.1
    one, two = hashlib.sha256(b"\0").digest(), hashlib.sha256(b"\0\0").digest()
    assert root_and_paths([leaf_of(b"")])[0] == one
    assert root_and_paths([leaf_of(b""), leaf_of(b"\0")])[0] == hashlib.sha256(b"\1" + one + two).digest()
