"""Checks of QKD hardware: both ends of a link where the driver can be either on this box, else the end that it is."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final

from qedge_driver_api.conformance.report import FailedError, SkippedError
from qedge_driver_api.conformance.stand import Check, Stand, expect, refuses
from qedge_driver_api.errors import DriverError, FatalError, RetriableError
from qedge_driver_api.qkd import DetectionBlock, FinishedKey, Preparations, QkdRole

_BLOCKS: Final = 4
_WAIT_S: Final = 5.0
_SLACK_S: Final = 2.0
_MIN_SIFTED: Final = 500
_MAX_ERRORS: Final = 0.35
"""More than the quarter that an eavesdropper makes, less than the half of two ends that share nothing."""


def _is_transceiver(stand: Stand) -> bool:
    return callable(getattr(stand.driver, "read_block", None))


def _has_role(stand: Stand) -> bool:
    return any(row.key == "role" for row in stand.info.settings)


@contextlib.contextmanager
def _end(stand: Stand, role: QkdRole) -> Iterator[Any]:  # a QkdTransceiver
    if not _is_transceiver(stand):
        raise SkippedError("the driver is no transceiver")
    if not _has_role(stand):
        raise FailedError("a transceiver has the setting `role`")
    with stand.opened(f"kit-{role}", role=role.value) as driver:
        yield driver


@contextlib.contextmanager
def _both(stand: Stand) -> Iterator[tuple[Any, Any]]:  # two QkdTransceivers: Alice, Bob
    """Open both ends; hardware is one end only, so this is for simulators."""
    if _is_transceiver(stand) and not stand.info.simulated:
        raise SkippedError("needs both ends, and the driver is of hardware")
    with _end(stand, QkdRole.ALICE) as alice, _end(stand, QkdRole.BOB) as bob:
        yield alice, bob


@contextlib.contextmanager
def _receiver(stand: Stand) -> Iterator[Any]:  # a QkdTransceiver
    if stand.info.simulated:
        with _both(stand) as (_, bob):
            yield bob
        return
    if stand.values.get("role") == QkdRole.ALICE:
        raise SkippedError("this end has no detectors")
    with _end(stand, QkdRole.BOB) as bob:
        yield bob


def _next_block(bob: Any) -> DetectionBlock:  # bob: a QkdTransceiver
    until = time.monotonic() + _WAIT_S
    while time.monotonic() < until:
        block = bob.read_block(1.0)
        if isinstance(block, DetectionBlock):
            return block
        expect(block is None, f"read_block() gave a {type(block).__name__} instead of a DetectionBlock or None")
    raise FailedError(f"no block within {_WAIT_S:g} s")


def _slots(block: DetectionBlock) -> list[int]:
    values = array("Q", block.slots)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _blocks(stand: Stand) -> None:
    with _receiver(stand) as bob:
        _next_block(bob)


def _shapes(stand: Stand) -> None:
    with _receiver(stand) as bob:
        for _ in range(_BLOCKS):
            block = _next_block(bob)
            arrays = all(isinstance(each, bytes) for each in (block.slots, block.bases, block.bits))
            expect(arrays, "slots, bases and bits are bytes")
            number = len(block.bits)
            sizes = (len(block.slots), len(block.bases), number)
            expect(
                sizes == (8 * number, number, number), f"slots, bases and bits of {sizes} bytes; expected 8, 1, 1 each"
            )
            expect(not block.bases.translate(None, b"\0\1"), "bases are 0 (Z) or 1 (X)")
            expect(not block.bits.translate(None, b"\0\1"), "bits are 0 or 1")
            expect(0 <= block.double_clicks <= number, f"{block.double_clicks} double clicks in {number} detections")
            live = f"{block.live_slots} slots alive of {block.num_slots}; expected at least one a detection, or -1"
            expect(block.live_slots == -1 or number <= block.live_slots <= block.num_slots, live)


def _increasing(stand: Stand) -> None:
    with _receiver(stand) as bob:
        end = -1
        for _ in range(_BLOCKS):
            block = _next_block(bob)
            slots = _slots(block)
            expect(
                block.first_slot >= end, f"a block begins at slot {block.first_slot}, before the last one ended ({end})"
            )
            end = block.first_slot + block.num_slots
            rising = all(one < other for one, other in itertools.pairwise(slots))
            expect(rising, "the slots of a block do not increase")
            inside = not slots or (block.first_slot <= slots[0] and slots[-1] < end)
            expect(inside, "a detection lies outside the slots of its block")


def _timeout(stand: Stand) -> None:
    """Bob alone, so that no light comes: he returns None or says that the other end is not there, in time."""
    if not _is_transceiver(stand) or not stand.info.simulated:
        raise SkippedError("needs an end that sees no light")
    with _end(stand, QkdRole.BOB) as bob:
        for timeout_s in (0.0, 0.2):
            started = time.monotonic()
            with contextlib.suppress(RetriableError):
                bob.read_block(timeout_s)
            took_s = time.monotonic() - started
            expect(took_s <= timeout_s + _SLACK_S, f"read_block({timeout_s}) took {took_s:.1f} s")


def _prepared(alice: Any, slots: bytes) -> Preparations:  # alice: a QkdTransceiver
    made = alice.preparations(slots)
    if not isinstance(made, Preparations):
        raise FailedError(f"preparations() gave a {type(made).__name__} instead of Preparations")
    number = len(slots) // 8
    for key in ("bases", "bits", "intensities"):
        values = getattr(made, key)
        expect(isinstance(values, bytes) and len(values) == number, f"{key} of {number} slots are {len(values)} bytes")
    expect(not (made.bases + made.bits).translate(None, b"\0\1"), "bases and bits are 0 or 1")
    return made


def _preparations(stand: Stand) -> None:
    with _both(stand) as (alice, bob):
        intensities = alice.properties().get("mean_photon_numbers", ())
        expect(
            isinstance(intensities, (list, tuple)) and len(intensities) > 0, "Alice has mean_photon_numbers as property"
        )
        for _ in range(_BLOCKS):
            block = _next_block(bob)
            made = _prepared(alice, block.slots)
            expect(max(made.intensities, default=0) < len(intensities), "an intensity index is out of range")
            expect(_prepared(alice, block.slots) == made, "the same slots gave other preparations when asked again")
            alice.release(block.first_slot + block.num_slots)
        _prepared(alice, b"")


def _agreement(stand: Stand) -> None:
    with _both(stand) as (alice, bob):
        sifted = errors = 0
        until = time.monotonic() + 4 * _WAIT_S
        while sifted < _MIN_SIFTED and time.monotonic() < until:
            block = _next_block(bob)
            made = _prepared(alice, block.slots)
            alice.release(block.first_slot + block.num_slots)
            same = [one == other for one, other in zip(made.bases, block.bases, strict=True)]
            sifted += sum(same)
            errors += sum(a != b for a, b, is_same in zip(made.bits, block.bits, same, strict=True) if is_same)
    if sifted < _MIN_SIFTED:
        raise SkippedError(f"only {sifted} sifted bits in {4 * _WAIT_S:g} s with these settings")
    expect(errors <= _MAX_ERRORS * sifted, f"{errors / sifted:.0%} of the sifted bits differ between the ends")


def _roles(stand: Stand) -> None:
    def refused(role: QkdRole, calls: Callable[[Any], tuple[tuple[str, Callable[[], object]], ...]]) -> None:
        with _end(stand, role) as end:
            for name, call in calls(end):
                refuses(call, f"{name}() as {role}", FatalError)

    if not stand.info.simulated:
        raise SkippedError("needs both roles, and the driver is of hardware")
    refused(QkdRole.ALICE, lambda end: (("read_block", lambda: end.read_block(0.0)),))
    refused(
        QkdRole.BOB,
        lambda end: (("preparations", lambda: end.preparations(bytes(8))), ("release", lambda: end.release(0))),
    )


def _keys(stand: Stand) -> None:
    if _is_transceiver(stand):
        raise SkippedError("the driver is no key source")
    with stand.opened() as driver:
        seen: set[str] = set()
        for number, size_bits in ((1, 256), (3, 128)):
            keys = driver.take(number, size_bits)
            good = isinstance(keys, tuple) and all(isinstance(key, FinishedKey) for key in keys)
            expect(good and len(keys) == number, f"take({number}, {size_bits}) gave {len(keys)} keys")
            expect(all(len(key.key) == size_bits // 8 for key in keys), f"a key of {size_bits} bits has another length")
            fresh = {key.key_id for key in keys} - seen
            expect(len(fresh) == number, "a key id was given twice")
            expect(len({key.key for key in keys}) == number, "two keys are equal")
            seen |= fresh
        with contextlib.suppress(DriverError):
            answer = driver.take_by_id(("00000000-0000-4000-8000-000000000000",))
            expect(False, f"take_by_id() of an unknown key gave {len(answer)} keys")


CHECKS: Final = (
    Check("block", "gives a block of detections", _blocks, ("open",)),
    Check("block-shapes", "gives blocks whose arrays fit together", _shapes, ("block",)),
    Check("slots-increase", "counts slots upwards within and across blocks", _increasing, ("block-shapes",)),
    Check("block-timeout", "comes back in time where there is no light", _timeout, ("open",)),
    Check("preparations", "tells what Alice sent, the same each time", _preparations, ("block-shapes",)),
    Check("agreement", "carries Alice's bits to Bob", _agreement, ("preparations",)),
    Check("roles", "refuses the methods of the other end with FatalError", _roles, ("open",)),
    Check("keys", "gives fresh keys of the size asked for", _keys, ("open",)),
)
