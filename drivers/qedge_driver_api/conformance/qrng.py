"""Checks of random number generators. They find what is broken, not what is subtly biased: the node tests for that."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any, Final

from qedge_driver_api.conformance.report import FailedError
from qedge_driver_api.conformance.stand import Check, Stand, expect, refuses
from qedge_driver_api.qrng import RawSamples

_LENGTHS: Final = (1, 2, 31, 4096, 65_537)
_SAMPLE_BYTES: Final = 65_536
_DEVIATIONS: Final = 6.0


def _read(driver: Any, number: int) -> RawSamples:  # any QrngDriver
    samples = driver.read(number)
    if not isinstance(samples, RawSamples) or not isinstance(samples.data, bytes):
        raise FailedError(f"read({number}) gave {samples!r:.80} instead of RawSamples with bytes")
    return samples


def _reads(stand: Stand) -> None:
    with stand.opened() as driver:
        _read(driver, 64)


def _lengths(stand: Stand) -> None:
    with stand.opened() as driver:
        for number in _LENGTHS:
            got = len(_read(driver, number).data)
            expect(got == number, f"read({number}) gave {got} bytes")


def _limits(stand: Stand) -> None:
    with stand.opened() as driver:
        for number in (0, -1, (1 << 20) + 1):
            refuses(partial(driver.read, number), f"read({number})")


def _constant(stand: Stand) -> None:
    with stand.opened() as driver:
        data = _read(driver, 4096).data
    expect(len(set(data)) > 1, f"4096 bytes are all {data[:1].hex()}")


def _fresh(stand: Stand) -> None:
    seen = []
    for _ in range(2):
        with stand.opened() as driver:
            seen += [_read(driver, 64).data, _read(driver, 64).data]
    expect(len(set(seen)) == len(seen), "two reads, or two openings, gave the same bytes")


def _claim(stand: Stand) -> None:
    with stand.opened() as driver:
        samples = _read(driver, _SAMPLE_BYTES)
    bits, claimed = samples.bits_per_sample, samples.min_entropy_per_sample
    expect(bits in (1, 8), f"bits_per_sample is {bits!r}; expected 1 or 8")
    fits = isinstance(claimed, (int, float)) and math.isfinite(claimed) and 0 < claimed <= bits
    expect(fits, f"min_entropy_per_sample is {claimed!r}; expected more than 0 and at most {bits}")
    possible = _most_common_value_bound(samples.data, bits)
    expect(claimed <= possible, f"claims {claimed:.3f} bits a sample; the most common value allows {possible:.3f}")


def _most_common_value_bound(data: bytes, bits: int) -> float:
    """Return the min-entropy that the samples can have at most, six standard deviations in their favour.

    The most common value estimate of NIST SP 800-90B §6.3.1, turned to the other side of its interval.
    """
    if bits == 8:
        number, most = len(data), Counter(data).most_common(1)[0][1]
    else:
        number = 8 * len(data)
        ones = int.from_bytes(data, "big").bit_count()
        most = max(ones, number - ones)
    share = most / number
    low = share - _DEVIATIONS * math.sqrt(share * (1 - share) / (number - 1))
    return min(float(bits), -math.log2(max(low, 2.0**-bits)))


CHECKS: Final = (
    Check("read", "gives raw samples", _reads, ("open",)),
    Check("read-lengths", "gives exactly as many bytes as asked for", _lengths, ("read",)),
    Check("read-limits", "refuses reads of no bytes and of more than 1 MiB", _limits, ("read",)),
    Check("not-constant", "does not give the same byte all the time", _constant, ("read",)),
    Check("fresh", "gives other bytes at each read and after each opening", _fresh, ("not-constant",)),
    Check("entropy-claim", "claims no more entropy than its samples can have", _claim, ("not-constant",)),
)
