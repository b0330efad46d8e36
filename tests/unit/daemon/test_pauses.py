"""Pauses of the garbage collector: what has survived a long one is left out of the next."""

from __future__ import annotations

import gc
import sys

from qedge.daemon.pauses import SWITCH_S, ShortPauses, shorten_pauses


def _collected(generation: int, took_ns: int) -> int:
    times, frozen = iter((1000, 1000 + took_ns)), []
    pauses = ShortPauses(clock_ns=lambda: next(times), freeze=lambda: frozen.append(1), long_ns=5000)
    for phase in ("start", "stop"):
        pauses(phase, {"generation": generation, "collected": 0, "uncollectable": 0})
    return len(frozen)


def test_only_after_a_long_collection_what_survived_is_frozen() -> None:
    for generation in range(3):
        assert _collected(generation, 5001) == 1
        assert _collected(generation, 5000) == 0


def test_it_may_freeze_within_a_collection_and_the_next_one_passes_what_is_frozen_by() -> None:
    class Thing:
        pass

    before = gc.get_freeze_count()
    pauses = ShortPauses(long_ns=-1)
    gc.callbacks.append(pauses)
    kept = [Thing() for _ in range(1000)]
    try:
        gc.collect()
        assert gc.get_freeze_count() >= before + len(kept)
        assert not any(isinstance(each, Thing) for each in gc.get_objects())
    finally:
        gc.callbacks.remove(pauses)
        gc.unfreeze()


def test_threads_of_the_daemon_change_often() -> None:
    before, thresholds, callbacks = sys.getswitchinterval(), gc.get_threshold(), list(gc.callbacks)
    try:
        shorten_pauses()
        assert abs(sys.getswitchinterval() - SWITCH_S) < 1e-6
    finally:
        sys.setswitchinterval(before)
        gc.set_threshold(*thresholds)
        gc.callbacks[:] = callbacks
        gc.unfreeze()
