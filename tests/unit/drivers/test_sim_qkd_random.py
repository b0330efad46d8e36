"""Random numbers of the simulated QKD link: published vectors, the standard's steps, and laws of chance."""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from qedge_drivers.sim_qkd import compiled, philox
from qedge_drivers.sim_qkd.compiled import seen
from qedge_drivers.sim_qkd.detectors import happenings
from qedge_drivers.sim_qkd.drbg import REQUEST_BYTES, RESEED_REQUESTS, CtrDrbg
from qedge_drivers.sim_qkd.emission import fill_gaps
from qedge_drivers.sim_qkd.gaps import gap_table, scale_of
from qedge_drivers.sim_qkd.philox import Words


def words(key: tuple[int, int], stream: int, number: int) -> list[np.ndarray[tuple[int], np.dtype[np.uint32]]]:
    made = [np.empty(number, np.uint32) for _ in range(4)]
    philox.Philox(key, stream).fill(*made)
    return made


def test_philox_gives_the_published_words() -> None:
    # Known answer of Random123 for philox4x32-10 with counter and key 0.
    assert [int(row[0]) for row in words((0, 0), 0, 1)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_philox_without_numba_gives_the_same_words() -> None:
    other = [np.empty(1000, np.uint32) for _ in range(4)]
    philox._fill_by_numpy(np.uint64(0), np.uint64(7), np.uint64(123), np.uint64(2**32 - 1), *other)
    for one, two in zip(words((123, 2**32 - 1), 7, 1000), other, strict=True):
        assert np.array_equal(one, two)


def test_counters_go_on_and_streams_differ() -> None:
    whole = words((1, 2), 3, 64)
    dice = philox.Philox((1, 2), 3)
    parts = [[np.empty(32, np.uint32) for _ in range(4)] for _ in range(2)]
    for part in parts:
        dice.fill(*part)
    for row, first, second in zip(whole, *parts, strict=True):
        assert np.array_equal(row, np.concatenate((first, second)))
    assert not np.array_equal(whole[0], words((1, 2), 4, 64)[0])
    one = np.empty(64, np.uint32)
    philox.Philox((1, 2), 3).fill_one(one)
    assert np.array_equal(one, np.concatenate([row[:16] for row in whole]))


class Standard:
    """CTR_DRBG of SP 800-90A, 10.2.1, written block by block as the standard does."""

    def __init__(self, seed: bytes) -> None:
        self.key, self.v = bytes(32), bytes(16)
        self.update(seed)

    def block(self) -> bytes:
        self.v = ((int.from_bytes(self.v, "big") + 1) % 2**128).to_bytes(16, "big")
        return Cipher(algorithms.AES(self.key), modes.ECB()).encryptor().update(self.v)  # noqa: S305 - one block

    def update(self, data: bytes) -> None:
        mixed = bytes(a ^ b for a, b in zip(b"".join(self.block() for _ in range(3)), data, strict=True))
        self.key, self.v = mixed[:32], mixed[32:]

    def generate(self, number: int) -> bytes:
        made = b"".join(self.block() for _ in range(-(-number // 16)))[:number]
        self.update(bytes(48))
        return made


def test_secret_choices_follow_the_standard_step_by_step() -> None:
    seeds = [bytes([value]) * 48 for value in range(3)]
    ours, theirs = CtrDrbg(lambda number: seeds[0]), Standard(seeds[0])
    for number in (1, 16, 100, 4096, 0, 47):
        assert ours.generate(number).tobytes() == theirs.generate(number)
    left = iter(seeds)
    fresh = CtrDrbg(lambda number: next(left))
    for _ in range(RESEED_REQUESTS):
        fresh.generate(16)
    again = Standard(seeds[0])
    for _ in range(RESEED_REQUESTS):
        again.generate(16)
    again.update(seeds[1])
    assert fresh.generate(16).tobytes() == again.generate(16)


def test_arrays_are_filled_in_requests_that_the_standard_allows() -> None:
    asked: list[int] = []

    def pool(number: int) -> bytes:
        asked.append(number)
        return random.Random(len(asked)).randbytes(number)

    secret = CtrDrbg(pool)
    out = np.zeros(REQUEST_BYTES // 4 + 5, np.int32)
    secret.fill(out)
    one = CtrDrbg(lambda number: random.Random(1).randbytes(number))
    assert out.tobytes() == one.generate(REQUEST_BYTES).tobytes() + one.generate(20).tobytes()
    big = np.zeros(RESEED_REQUESTS * REQUEST_BYTES // 4, np.int32)
    secret.fill(big)
    assert asked == [48, 48]
    assert abs(int(np.bitwise_count(big.view(np.uint32)).sum()) - 16 * len(big)) < 5 * math.sqrt(8 * len(big))


def gaps_of(high: Words, low: Words, chance: float) -> NDArray[np.int64]:
    out = np.empty(len(high), np.int64)
    signed = seen(high.view(np.int32)), seen(low.view(np.int32))
    fill_gaps(*signed, seen(gap_table(chance)), scale_of(chance), seen(out))
    return out


@pytest.mark.parametrize("chance", [0.9, 0.3, 0.04, 1e-3])
def test_gaps_are_geometric(chance: float) -> None:
    number = 1 << 18
    high, low, _, _ = words((9, 9), 0, number)
    gaps = gaps_of(high, low, chance)
    assert gaps.min() == 0
    spread = math.sqrt((1 - chance) / chance**2 / number)
    assert abs(float(gaps.mean()) - (1 - chance) / chance) < 5 * spread
    for edge in (0, 1, 2, 5, 20, 100, 1000):
        below = 1 - (1 - chance) ** (edge + 1)
        count = int((gaps <= edge).sum())
        assert abs(count - number * below) <= 5 * math.sqrt(number * below * (1 - below)) + 1


@pytest.mark.parametrize("chance", [0.5, 0.05, 1e-4, 1e-9])
def test_gaps_agree_with_the_formula_in_double_precision(chance: float) -> None:
    high, low, _, _ = words((4, 2), 0, 1 << 16)
    uniform = ((high.astype(np.uint64) << np.uint64(21) | low.astype(np.uint64) >> np.uint64(11)) + 0.5) * 2.0**-53
    assert np.array_equal(gaps_of(high, low, chance), np.floor(np.log(uniform) / math.log1p(-chance)))
    assert not gaps_of(high, low, 1.0).any()


def test_what_never_happens_does_not_and_what_does_is_in_its_block() -> None:
    dice = np.random.Generator(np.random.Philox(1))
    assert len(happenings(dice, 0.0, 100)) == 0
    slots = np.concatenate([happenings(dice, 0.01, 1000) for _ in range(1000)])
    assert slots.min() >= 0
    assert slots.max() < 1000
    assert abs(len(slots) - 10_000) < 500


SAME = """
import hashlib, random, sys
import numpy as np
from qedge_drivers.sim_qkd.detectors import Detectors, Incoming, Receiver
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.ledger import Ledger
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.source import Emitter, Odds, Receiving, Source
from qedge_drivers.sim_qkd.compiled import COMPILED
pool = random.Random(1).randbytes
emitter, ledger = Emitter(Philox((1, 2), 0), CtrDrbg(pool)), Ledger(CtrDrbg(pool))
detectors = Detectors(Philox((3, 4), 0), np.random.Generator(np.random.Philox(5)), CtrDrbg(pool))
digest = hashlib.sha256()
for attack in ("intercept", "split", "blind"):
    odds = Odds(Source((0.5, 0.1, 0.0), (0.8, 0.15, 0.05), 0.9, 0.3, attack, 0.5), Receiving(0.4, 0.9))
    words, offsets, choices = emitter.emit(odds, 1 << 14)
    ledger.add(0, 1 << 14, odds.dark_borders, offsets, choices)
    light = Incoming(0, 1 << 14, words, odds.blinds, 0.9)
    for part in detectors.measure(Receiver(0.8, 1e-3, 0.02, 7, 0.1, 50.0), light, 700):
        made = ledger.choices(part.slots.astype(np.uint64))
        for each in (part.slots, part.bases, part.bits, made.bases, made.bits, made.intensities):
            digest.update(each.tobytes())
        digest.update(str(part.double_clicks).encode())
    ledger.release(1 << 14)
print(COMPILED, digest.hexdigest())
"""


def test_interpreted_loops_see_the_same_detections_as_compiled_ones() -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-c", SAME],
            env={**os.environ, "NUMBA_DISABLE_JIT": switch},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout.split()
        for switch in ("0", "1")
    ]
    assert [answer[0] for answer in answers] == [str(compiled.COMPILED), "False"]
    for one, other in itertools.pairwise(answers):
        assert one[1] == other[1]
