"""Sifting: wire bits per sifted key bit against their entropy, and detections per second of each codec and kernel.

One block of 2^20 detections of one channel: chance of a detection per slot .01, key basis .85 at Alice and .9 at Bob,
kept detections of three intensities in shares .8, .15 and .05. What crosses the wire: Bob's gaps and bases, Alice's
bases, intensities of what is kept, and the test bits of one end. The baseline of `qkd.sift_wire_bits_per_key_bit` is
the entropy of just that. Speeds are of one core, CPU time of the thread, medians; `encode` and `decode` are all
messages of the block together, both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks import kernels
from benchmarks.report import Figure

DETECTIONS = 1 << 20
CHANCE = 0.01
KEY_BASIS_ALICE, KEY_BASIS_BOB = 0.85, 0.9
INTENSITIES = (0.8, 0.15, 0.05)
SAMPLES = 11


def entropy(*shares: float) -> float:
    """Return Shannon's entropy of shares that sum to one, in bits."""
    return -sum(share * math.log2(share) for share in shares if share)


def wire_bits_bound() -> float:
    """Return the entropy of all messages per sifted key bit."""
    key = KEY_BASIS_ALICE * KEY_BASIS_BOB
    test = (1 - KEY_BASIS_ALICE) * (1 - KEY_BASIS_BOB)
    gap = entropy(CHANCE, 1 - CHANCE) / CHANCE
    bases = sum(entropy(share, 1 - share) for share in (KEY_BASIS_ALICE, KEY_BASIS_BOB))
    return (gap + bases + (key + test) * entropy(*INTENSITIES) + test) / key


def run() -> list[Figure]:
    """Measure one block."""
    kernels.prepare()
    import numpy as np

    from qedge.qkd.sifting import gaps, selection, symbols
    from qedge.qkd.sifting.reference import planes_of

    chance = np.random.default_rng(1)
    slots = (np.cumsum(chance.geometric(CHANCE, DETECTIONS)) - 1).astype(np.uint64)
    end = int(slots[-1]) + 1
    alice, bob, bits, wrong = (
        np.packbits(chance.random(DETECTIONS) > share, bitorder="little")
        for share in (KEY_BASIS_ALICE, KEY_BASIS_BOB, 0.5, 0.98)
    )
    noisy = bits ^ wrong
    levels = planes_of(chance.choice(3, DETECTIONS, p=INTENSITIES).astype(np.uint8))
    here = selection.sift(alice, bob, bits, DETECTIONS, levels)
    there = selection.sift(bob, alice, noisy, DETECTIONS)

    def encode() -> list[bytes]:
        return [
            gaps.encode_gaps(slots, 0),
            symbols.encode_bits(bob, DETECTIONS),
            symbols.encode_bits(alice, DETECTIONS),
            symbols.encode_symbols(here.key_levels, here.num_key),
            symbols.encode_symbols(here.test_levels, here.num_test),
        ]

    messages = encode()

    def decode() -> None:
        gaps.decode_gaps(messages[0], 0, DETECTIONS, end)
        for message in messages[1:3]:
            symbols.decode_bits(message, DETECTIONS)
        symbols.decode_symbols(messages[3], here.num_key)
        symbols.decode_symbols(messages[4], here.num_test)

    def rate(call: Callable[[], object], entries: int = DETECTIONS) -> float:
        return entries / kernels.cpu_s(call, SAMPLES) / 1e6

    wire = (8 * sum(map(len, messages)) + here.num_test) / here.num_key
    return [
        Figure("qkd.sift_wire_bits_per_key_bit", wire, "bit", 1, 1.05 * wire_bits_bound(), wire_bits_bound()),
        Figure("qkd.sift_encode_mdetections_s", rate(encode), "M/s", SAMPLES),
        Figure("qkd.sift_decode_mdetections_s", rate(decode), "M/s", SAMPLES),
        Figure("qkd.sift_gaps_encode_mdetections_s", rate(lambda: gaps.encode_gaps(slots, 0)), "M/s", SAMPLES),
        Figure(
            "qkd.sift_gaps_decode_mdetections_s",
            rate(lambda: gaps.decode_gaps(messages[0], 0, DETECTIONS, end)),
            "M/s",
            SAMPLES,
        ),
        Figure(
            "qkd.sift_bits_encode_mbit_s",
            rate(lambda: symbols.encode_bits(bob, DETECTIONS)),
            "Mbit/s",
            SAMPLES,
            50,
            at_least=True,
        ),
        Figure(
            "qkd.sift_bits_decode_mbit_s",
            rate(lambda: symbols.decode_bits(messages[1], DETECTIONS)),
            "Mbit/s",
            SAMPLES,
            50,
            at_least=True,
        ),
        Figure(
            "qkd.sift_pick_mdetections_s",
            rate(lambda: selection.sift(alice, bob, bits, DETECTIONS, levels)),
            "M/s",
            SAMPLES,
        ),
        Figure(
            "qkd.sift_count_mbit_s",
            rate(lambda: selection.count_errors(here.key, there.key, here.key_levels, here.num_key), here.num_key),
            "Mbit/s",
            SAMPLES,
        ),
    ]
