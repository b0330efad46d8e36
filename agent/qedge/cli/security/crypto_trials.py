"""The trials of `qedge crypto test`: allowed algorithms here, experimental ones in a worker, some by both providers."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

from qedge.base.errors import QedgeError
from qedge.base.system_clock import SystemClock
from qedge.crypto import self_test
from qedge.crypto.keys import generate
from qedge.crypto.pq_worker import CHECKED, TARGET
from qedge.crypto.registry import Algorithm, Kind, Status
from qedge.workers.model import Msg, WorkerSpec
from qedge.workers.process import WorkerProcess

RUNS: Final = 5
ROUND_TRIP: Final = "round trip"
_DEADLINE_S: Final = 120.0
_SIGNED: Final[
    Mapping[str, type[mldsa.MLDSA44PublicKey] | type[mldsa.MLDSA65PublicKey] | type[mldsa.MLDSA87PublicKey]]
] = {
    "ml-dsa-44": mldsa.MLDSA44PublicKey,
    "ml-dsa-65": mldsa.MLDSA65PublicKey,
    "ml-dsa-87": mldsa.MLDSA87PublicKey,
}
_ENCAPSULATED: Final[Mapping[str, type[mlkem.MLKEM768PublicKey] | type[mlkem.MLKEM1024PublicKey]]] = {
    "ml-kem-768": mlkem.MLKEM768PublicKey,
    "ml-kem-1024": mlkem.MLKEM1024PublicKey,
}
_CONTEXT: Final = f"qedge/v1/{self_test.PURPOSE}".encode()


class Trial(msgspec.Struct, frozen=True):
    """What one check of one algorithm gave: `ms` is the median of `runs`; `skipped`: its provider is not installed."""

    algorithm: str
    check: str
    provider: str
    ok: bool
    ms: float = 0.0
    runs: int = 0
    problem: str = ""
    skipped: bool = False


class TrialReport(msgspec.Struct, frozen=True):
    """All trials of one run."""

    ok: bool
    trials: tuple[Trial, ...]


async def run_trials(rows: Sequence[Algorithm], tell: Callable[[Trial], None]) -> TrialReport:
    """Try each row that is allowed or experimental; `tell` hears of each trial as it ends."""
    trials: list[Trial] = []

    def add(trial: Trial) -> None:
        trials.append(trial)
        tell(trial)

    for row in rows:
        if row.status is Status.ALLOWED:
            add(_try_here(row))
    if any(row.status is Status.EXPERIMENTAL or row.name in CHECKED for row in rows):
        await _try_in_worker(rows, add)
    return TrialReport(all(trial.ok for trial in trials), tuple(trials))


def _try_here(row: Algorithm) -> Trial:
    check = "offered" if row.kind is Kind.GROUP else ROUND_TRIP
    if not self_test.is_testable(row):
        return Trial(row.name, check, row.provider, ok=True, skipped=True)
    times: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter_ns()
        try:
            self_test.run_once(row, os.urandom)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is a failure of the algorithm
            return Trial(row.name, check, row.provider, ok=False, problem=_say(error))
        times.append((time.perf_counter_ns() - start) / 1e6)
    return Trial(row.name, check, row.provider, ok=True, ms=statistics.median(times), runs=RUNS)


async def _try_in_worker(rows: Sequence[Algorithm], add: Callable[[Trial], None]) -> None:
    worker = WorkerProcess(WorkerSpec("pq", TARGET), clock=SystemClock(), random_bytes=os.urandom)
    try:
        await worker.start()
        for row in rows:
            if row.name in CHECKED:
                add(await _cross_check(row, worker))
            elif row.status is Status.EXPERIMENTAL:
                add(await _try_there(row, worker))
    except QedgeError as error:
        add(Trial("pqcrypto", "worker", "pqcrypto", ok=False, problem=_say(error)))
    finally:
        await worker.close()


async def _try_there(row: Algorithm, worker: WorkerProcess) -> Trial:
    asked: dict[str, Msg] = {"algorithm": row.name, "runs": RUNS}
    try:
        answer = await worker.call("test", asked, deadline_s=_DEADLINE_S)
        seen = msgspec.convert(answer, _WorkerAnswer)
    except (QedgeError, msgspec.ValidationError) as error:
        return Trial(row.name, ROUND_TRIP, row.provider, ok=False, problem=_say(error))
    return Trial(row.name, ROUND_TRIP, row.provider, seen.ok, seen.ms, seen.runs, seen.problem)


class _WorkerAnswer(msgspec.Struct, frozen=True):
    ok: bool
    problem: str
    ms: float
    runs: int


async def _cross_check(row: Algorithm, worker: WorkerProcess) -> Trial:
    """Let each provider check what the other made."""
    start = time.perf_counter_ns()
    try:
        await (_cross_check_kem if row.kind is Kind.KEM else _cross_check_signature)(row, worker)
    except Exception as error:  # noqa: BLE001 - whatever either library raises means that they disagree
        return Trial(row.name, "cross-check", "both", ok=False, problem=_say(error))
    return Trial(row.name, "cross-check", "both", ok=True, ms=(time.perf_counter_ns() - start) / 1e6, runs=1)


async def _cross_check_signature(row: Algorithm, worker: WorkerProcess) -> None:
    key = generate(row.name, os.urandom)
    message: dict[str, Msg] = {"algorithm": row.name, "message": self_test.MESSAGE, "context": _CONTEXT}
    signature = key.sign(self_test.MESSAGE, self_test.PURPOSE)
    public = key.public_key.library.public_bytes_raw()
    good = await _call(worker, "verify", {**message, "public_key": public, "signature": signature})
    self_test.require(good is True, row, "pqcrypto refuses a signature of cryptography")
    theirs = await _parts(worker, "specimen", message)
    _SIGNED[row.name].from_public_bytes(theirs["public_key"]).verify(theirs["signature"], self_test.MESSAGE, _CONTEXT)


async def _cross_check_kem(row: Algorithm, worker: WorkerProcess) -> None:
    named: dict[str, Msg] = {"algorithm": row.name}
    private = self_test.ML_KEM[row.name].from_seed_bytes(os.urandom(row.sizes["secret_key"]))
    public = private.public_key()
    theirs = await _parts(worker, "encaps", {**named, "public_key": public.public_bytes_raw()})
    same = private.decapsulate(theirs["ciphertext"]) == theirs["shared_secret"]
    self_test.require(same, row, "cryptography does not decapsulate what pqcrypto encapsulated")
    pair = await _parts(worker, "keygen", named)
    shared, ciphertext = _ENCAPSULATED[row.name].from_public_bytes(pair["public_key"]).encapsulate()
    asked: dict[str, Msg] = {**named, "secret_key": pair["secret_key"], "ciphertext": ciphertext}
    answer = await _parts(worker, "decaps", asked)
    self_test.require(answer["shared_secret"] == shared, row, "pqcrypto does not decapsulate what cryptography did")


async def _parts(worker: WorkerProcess, method: str, asked: dict[str, Msg]) -> dict[str, bytes]:
    return msgspec.convert(await _call(worker, method, asked), dict[str, bytes])


async def _call(worker: WorkerProcess, method: str, asked: dict[str, Msg]) -> Msg:
    return await worker.call(method, asked, deadline_s=_DEADLINE_S)


def _say(error: Exception) -> str:
    return error.message if isinstance(error, QedgeError) else f"{type(error).__name__}: {error}".rstrip(": ")
