"""Targets that misbehave on demand, imported by worker processes of the tests."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping

from qedge.base.errors import QedgeError
from qedge.workers.host import HostLink
from qedge.workers.model import Msg


class Ring:
    """Garbage that only a collection finds."""

    alive = 0

    def __init__(self) -> None:
        Ring.alive += 1
        self.me = self

    def __del__(self) -> None:
        Ring.alive -= 1


def make_rings(number: int) -> Msg:
    """Make so much garbage; tell how much was there at once at most, and how often it was collected meanwhile."""
    before = sum(each["collections"] for each in gc.get_stats())
    most = 0
    for _ in range(number):
        Ring()
        most = max(most, Ring.alive)
    return {"most": most, "collections": sum(each["collections"] for each in gc.get_stats()) - before}


class Target:
    """Does what its method says."""

    def __init__(self, _init: Mapping[str, object], link: HostLink) -> None:
        self.link = link

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        number = args.get("number", 0)
        assert isinstance(number, int)
        if method == "echo":
            return {"number": number}
        if method == "big":
            return b"\xa5" * number
        if method == "random":
            return self.link.random_bytes(number)
        if method == "sleep":
            time.sleep(number)
        if method == "nap_ms":
            time.sleep(number / 1000)
        if method == "wait_for_cancel":
            while not self.link.cancelled():
                time.sleep(0.005)
            return "cancelled"
        if method == "die":
            os._exit(number)
        if method == "hog":
            return len(bytes(number << 20))
        if method == "refuse":
            raise QedgeError("circuit.syntax", "No.", fix="Write it anew.", line=3)
        if method == "garbage":
            os.write(3 if number == 0 else number, b"\xff" * 64)
        if method == "noise":
            os.write(1, b"x" * 100_000 + b"\n")
        if method == "rings":
            return make_rings(number)
        if method == "descriptors":
            return len(os.listdir("/proc/self/fd"))
        return None


class Streams(Target):
    """Says back what streams say, text in capitals."""

    def take(self, stream_id: int, message: object, arrived_ns: int) -> None:
        if message == "die":
            os._exit(3)
        if isinstance(message, str):
            self.link.send_stream(stream_id, message.upper())
        elif isinstance(message, bytes):
            assert 0 < arrived_ns <= time.perf_counter_ns()
            self.link.send_stream(stream_id, message)
        else:
            self.link.send_stream(stream_id + 1, "ended")


class Broken:
    """Cannot be made."""

    def __init__(self, _init: Mapping[str, object], _link: HostLink) -> None:
        raise QedgeError("driver.bad_settings", "Never with these settings.", fix="Use others.")
