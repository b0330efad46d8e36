"""What one network address may do at the listener: connections, attempts a second, and waits after failures."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from qedge.base.bucket import Bucket
from qedge.security.tally import Tally

MAX_ADDRESSES: Final = 16_384
_FREE_FAILURES: Final = 5
_FIRST_WAIT_NS: Final = 10**9
_MAX_WAIT_NS: Final = 300 * 10**9
_FORGIVEN_NS: Final = 600 * 10**9


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """Limits of one address; `connects_per_s` counts attempts, of which `burst` may come at once."""

    max_connections: int
    connects_per_s: float
    burst: float


class _Record:
    __slots__ = ("bucket", "failed_ns", "failures", "num_open", "tally", "until_ns")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.num_open = 0
        self.failures = 0
        self.failed_ns = 0
        self.until_ns = 0
        self.tally = Tally()


class Addresses:
    """The record of each address that has connections, or had failures or many attempts lately.

    At most `MAX_ADDRESSES` are kept; beyond that, one that has nothing open gives way to the new one.
    """

    def __init__(self, limits: AddressLimits) -> None:
        self._limits = limits
        self._records: dict[str, _Record] = {}

    def arrive(self, address: str, now_ns: int) -> str:
        """Count a new connection; returns why it is refused, empty where it is not. An arrival has to `leave`."""
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= MAX_ADDRESSES and not self._make_room(now_ns):
                return "too_many_addresses"
            record = self._records[address] = self._new(now_ns)
        record.tally.connects += 1
        record.tally.last_ns = now_ns
        if now_ns < record.until_ns:
            return "waiting_after_failures"
        if record.num_open >= self._limits.max_connections:
            return "too_many_of_address"
        if not record.bucket.try_take(now_ns):
            return "too_often"
        record.num_open += 1
        return ""

    def leave(self, address: str, now_ns: int) -> None:
        """Count a connection that is closed."""
        record = self._records.get(address)
        if record is None:
            return
        record.num_open -= 1
        if record.failures == 0 and self._is_idle(record, now_ns):
            del self._records[address]

    def failed(self, address: str, now_ns: int) -> None:
        """Count an attempt that proved nothing; from the sixth on each doubles the wait before the next."""
        record = self._records.get(address)
        if record is None:
            return
        if now_ns - record.failed_ns > _FORGIVEN_NS:
            record.failures = 0
        record.failures += 1
        record.failed_ns = now_ns
        record.tally.failed += 1
        over = record.failures - _FREE_FAILURES
        if over > 0:
            record.until_ns = now_ns + min(_FIRST_WAIT_NS << min(over - 1, 16), _MAX_WAIT_NS)

    def succeeded(self, address: str) -> None:
        """Take back one failure: a device that got in shows that others behind the same address may be sound."""
        record = self._records.get(address)
        if record is not None and record.failures:
            record.failures -= 1

    def block(self, address: str, until_ns: int, now_ns: int) -> None:
        """Refuse an address until then; a time that has passed lets it in again."""
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= MAX_ADDRESSES and not self._make_room(now_ns):
                return
            record = self._records[address] = self._new(now_ns)
        record.until_ns = until_ns

    def tallies(self) -> dict[str, Tally]:
        """Return the counts of all addresses."""
        return {address: record.tally for address, record in self._records.items()}

    def sweep(self, now_ns: int) -> None:
        """Forget addresses of which nothing counts any more."""
        idle = [address for address, record in self._records.items() if self._is_idle(record, now_ns)]
        for address in idle:
            del self._records[address]

    def __len__(self) -> int:
        return len(self._records)

    def _new(self, now_ns: int) -> _Record:
        return _Record(Bucket(self._limits.connects_per_s, self._limits.burst, now_ns))

    def _is_idle(self, record: _Record, now_ns: int) -> bool:
        forgiven = not record.failures or now_ns - record.failed_ns > _FORGIVEN_NS
        return record.num_open <= 0 and forgiven and now_ns >= record.until_ns and record.bucket.is_full(now_ns)

    def _make_room(self, now_ns: int) -> bool:
        for address, record in self._records.items():
            if record.num_open <= 0 and now_ns >= record.until_ns:
                del self._records[address]
                return True
        return False


def address_of(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 that an IPv6 address is in."""
    if ":" not in host:
        return host
    bare = ipaddress.IPv6Address(host.partition("%")[0])
    if bare.ipv4_mapped is not None:
        return str(bare.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(bare) >> 64 << 64, 64)))
