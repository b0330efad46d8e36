"""Raw error rate of a link: sift a block, put an interval around the error rate, and say what it means.

Both bases are judged by themselves: where bases are chosen with a bias, an eavesdropper who always measures in the
frequent one leaves hardly a trace in the sum of both.
"""

from __future__ import annotations

import math
from typing import Final

from qedge.qkd.model import BasisCounts, Detections, Prepared, RawWindow, Verdict

STANDARD_DEVIATIONS: Final = 4.0
"""Half width of every interval; a wrong verdict has a chance of about 6e-5."""


def sift(block: Detections, prepared: Prepared) -> RawWindow:
    """Count the bits that both ends made in the same basis, and the errors among them.

    Arrays of one byte per detection become one large integer each, so that a block costs a few linear passes in C.
    """
    ones = int.from_bytes(b"\1" * block.number, "little")
    alice_x, bob_x = (int.from_bytes(bases, "little") for bases in (prepared.bases, block.bases))
    wrong = int.from_bytes(prepared.bits, "little") ^ int.from_bytes(block.bits, "little")
    both_x = alice_x & bob_x
    both_z = ones & ~(alice_x | bob_x)
    return RawWindow(
        slots=block.num_slots,
        detections=block.number,
        double_clicks=block.double_clicks,
        z=BasisCounts(both_z.bit_count(), (both_z & wrong).bit_count()),
        x=BasisCounts(both_x.bit_count(), (both_x & wrong).bit_count()),
    )


def interval(errors: int, number: int, deviations: float = STANDARD_DEVIATIONS) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927); (0, 1) where nothing was counted."""
    if number == 0:
        return 0.0, 1.0
    share, square = errors / number, deviations * deviations
    scale = 1 + square / number
    centre = (share + square / (2 * number)) / scale
    half = deviations / scale * math.sqrt(share * (1 - share) / number + square / (4 * number * number))
    return max(0.0, centre - half), min(1.0, centre + half)


def judge(window: RawWindow, max_qber: float) -> Verdict | None:
    """Say what the window means; None where more detections are needed to tell.

    An error rate that may be one half means that Bob's bits know nothing of Alice's: dark counts only, no light.
    """
    if window.both.sifted == 0:
        return None
    if interval(window.both.errors, window.both.sifted)[1] >= 0.5:
        return Verdict.NO_LIGHT if interval(window.both.errors, window.both.sifted)[0] > max_qber else None
    bounds = [interval(basis.errors, basis.sifted) for basis in (window.z, window.x)]
    if any(low > max_qber for low, _ in bounds):
        return Verdict.SUSPECTED
    return Verdict.CLEAR if all(high < max_qber for _, high in bounds) else None


def judge_finally(window: RawWindow, max_qber: float) -> Verdict:
    """Say what a window means that gets no more detections; doubt is resolved against the link."""
    verdict = judge(window, max_qber)
    if verdict is None:
        return Verdict.SUSPECTED if window.both.sifted else Verdict.NO_LIGHT
    return verdict
