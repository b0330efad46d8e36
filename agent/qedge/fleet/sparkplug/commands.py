"""NCMD and DCMD: what hosts may ask of this node, and what of it has an effect. Pure.

Who sends a command is not known: any client that the server lets publish here can. So nothing but a rebirth has an
effect unless the configuration names it, whatever the server's access rules are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.sparkplug.model import DEVICE_REBIRTH, REBIRTH, DataType, Value, Write
from qedge.fleet.sparkplug.payload import convert, decode_payload
from qedge.fleet.sparkplug.topics import Topics

MAX_COMMAND_BYTES: Final = 32 * 1024
"""Larger ones have no effect: reading them would cost time, and anybody may send them."""

MAX_WRITES: Final = 64
"""Most writes that one command carries out."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a message was worth: `outcome` is one of `state`, `taken`, `refused`, `retained`, `malformed`, `foreign`.

    `refused` counts the metrics of a command that had no effect: not allowed, unknown, or of another type.
    """

    outcome: str
    rebirth: bool = False
    devices: tuple[str, ...] = ()
    """Devices whose births are asked for."""

    writes: tuple[Write, ...] = ()
    refused: int = 0


@dataclass(slots=True)
class _Sorted:
    rebirth: bool = False
    devices: list[str] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    refused: int = 0


class Commands:
    """Reads commands; `writable` are the names of metrics, of node or devices, that hosts may write."""

    def __init__(self, topics: Topics, writable: frozenset[str]) -> None:
        self._topics = topics
        self._writable = writable

    def hear(
        self, topic: str, payload: bytes, *, retain: bool, datatype: Callable[[str, str], DataType | None]
    ) -> Heard:
        """Read a command; `datatype` tells the type of a metric in its birth. Raises `bus.bad_message`.

        tck-id-operational-behavior-data-commands-dcmd-{verb,metric-name,metric-value}, and the same of ncmd.
        A retained command is dropped: it would come again with every connection.
        """
        device = self._topics.commanded(topic)
        if device is None:
            return Heard("foreign")
        if retain:
            return Heard("retained")
        if len(payload) > MAX_COMMAND_BYTES:
            return Heard("malformed")
        found = _Sorted()
        for metric in decode_payload(payload).metrics:
            if metric.is_historical:
                found.refused += 1
            else:
                self._sort(found, device, metric.name, metric.value, datatype)
        outcome = "taken" if found.rebirth or found.devices or found.writes else "refused"
        return Heard(outcome, found.rebirth, tuple(found.devices), tuple(found.writes), found.refused)

    def _sort(
        self,
        found: _Sorted,
        device: str,
        name: str,
        value: Value | None,
        datatype: Callable[[str, str], DataType | None],
    ) -> None:
        """tck-id-operational-behavior-data-commands-ncmd-rebirth-name and -value: only true asks for anything."""
        if not device and name == REBIRTH:
            found.rebirth = found.rebirth or value is True
            found.refused += value is not True
            return
        kind = datatype(device, name)
        if name not in self._writable or kind is None or len(found.writes) == MAX_WRITES:
            found.refused += 1
            return
        try:
            write = Write(device, name, convert(value, kind))
        except QedgeError:
            found.refused += 1
            return
        if device and name == DEVICE_REBIRTH:
            if write.value is True:
                found.devices.append(device)
        else:
            found.writes.append(write)
