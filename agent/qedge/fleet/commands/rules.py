"""Whether a node does what a request asks. Pure: who signed it was checked before (`qedge.crypto.operators`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.model import Member
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.ports import Executor
from qedge.wire.commands import CommandRequest, OperatorRole

ALWAYS_TWO: Final = frozenset({"wipe"})
"""Kinds that no configuration lets one person do."""

_SHARE_OF_OTHERS: Final = 0.75
"""Of the journal, for operators without the role security."""

_DAY_NS: Final = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a request is judged by, beside itself.

    `key_id` is the node's key; `served` says of all keys that the node had since it keeps its journal when each was
    certified first. `newest_utc_ns`: when the newest command was signed, as far as its time was right;
    `dropped_utc_ns`: the newest of those that are not known any more.

    `clock_good` is None where the node cannot tell whether something synchronises its clock.
    """

    fleet: str
    node: str
    key_id: str
    served: Mapping[str, int]
    utc_ns: int
    newest_utc_ns: int
    dropped_utc_ns: int
    clock_good: bool | None


def check_address(request: CommandRequest, now: Circumstances, command: str) -> None:
    """Raise `order.misdirected` where a request is not for this node, or stands where another belongs."""
    if (request.fleet, request.node, request.id) != (now.fleet, now.node, command):
        raise QedgeError("order.misdirected", "A command is for another node, or stands on another's topic.")


def check_identity(request: CommandRequest, now: Circumstances) -> QedgeError | None:
    """Say why a request does not count where it is for a key that the node had before; None: it is for the present one.

    Raises `order.misdirected` or `order.forgotten` where it is for somebody who had the name before. A box that was
    wiped knows nothing of what it did, and the broker may still have what it was ordered, so that it must not speak of
    it. What it was ordered since it keeps its journal stands there, and what does not was never begun.
    """
    if request.node_key is msgspec.UNSET:
        if request.issued_utc_ns >= now.served[now.key_id]:
            return None
        if request.issued_utc_ns < min(now.served.values()):
            raise QedgeError("order.forgotten", "A command is older than the node's certificate, and names no key.")
    elif request.node_key == now.key_id:
        return None
    elif request.node_key not in now.served:
        raise QedgeError("order.misdirected", "A command is for another key than the node has.")
    return QedgeError(
        "order.key_changed",
        "The node has another key since it was ordered.",
        fix="Send it again: it was not begun.",
    )


def check_age(request: CommandRequest, now: Circumstances, config: CommandsConfig) -> None:
    """Raise `order.forgotten` where a request is so old that the journal could have forgotten it."""
    if request.issued_utc_ns < now.utc_ns - _keep_ns(config) or request.issued_utc_ns <= now.dropped_utc_ns:
        raise QedgeError("order.forgotten", "A command is older than this node remembers commands.")


def check_share(member: Member, known: int, config: CommandsConfig) -> None:
    """Raise `order.queue_full` where the rest of the journal is for those who decide on trust.

    Who may only look, or runs boxes, must not keep the others from revoking his key by ordering without end.
    """
    if known >= _SHARE_OF_OTHERS * config.max_kept and OperatorRole.SECURITY not in member.roles:
        raise QedgeError(
            "order.queue_full",
            "So many commands are remembered that only the role security has room.",
            fix="Raise fleet.commands.max_kept, or wait until some are forgotten.",
        )


def check_time(request: CommandRequest, now: Circumstances, config: CommandsConfig) -> None:
    """Raise `order.clock` or `order.expired` where a request does not count now.

    A clock that went back would make requests good again that had expired, so the node does nothing until it is right.
    """
    skew_ns = round(config.clock_skew_s * 1e9)
    if now.utc_ns + skew_ns < now.newest_utc_ns:
        raise QedgeError("order.clock", "The clock of the node went back.", fix="Set it right.")
    if request.issued_utc_ns > now.utc_ns + skew_ns:
        raise QedgeError("order.clock", "The command is from the future.", fix="Compare the clocks of both sides.")
    if not request.issued_utc_ns < request.expires_utc_ns <= request.issued_utc_ns + _keep_ns(config):
        raise QedgeError(
            "order.expired",
            f"A command has to be good for more than nothing and at most {config.keep_days:g} days.",
            fix="Send it with another expiry.",
        )
    if now.utc_ns >= request.expires_utc_ns:
        raise QedgeError("order.expired", "The command came after its expiry.", fix="Send it again.")


def check_role(member: Member, role: OperatorRole, now: Circumstances, *, strict: bool) -> None:
    """Raise `order.role` where the certificate does not name the role, `order.clock` where the clock is not kept.

    `strict`: what decides on trust wants a clock that something synchronises, since only time tells old from new.
    """
    if role not in member.roles:
        raise QedgeError(
            "order.role",
            f"The certificate of {member.subject.name} does not name the role {role}.",
            fix="Have an operator with that role send it.",
        )
    if strict and role is OperatorRole.SECURITY and now.clock_good is False:
        raise QedgeError(
            "order.clock",
            "Nothing synchronises the clock of the node, so it takes no orders of this role.",
            fix="Start a time service on the box, or set fleet.commands.synchronised_clock = false in a file of it.",
        )


def needs_second(kind: str, config: CommandsConfig) -> bool:
    """Say whether a kind begins only with a second person's approval."""
    return kind in ALWAYS_TWO or kind in config.two_persons


def second_persons(member: Member, approvers: Sequence[Member], role: OperatorRole) -> tuple[Member, ...]:
    """Return the others, by name and key, whose certificates name the role as well; each person once, by name."""
    others = {
        each.subject.name: each
        for each in approvers
        if each.subject.name != member.subject.name and each.key_id != member.key_id and role in each.roles
    }
    return tuple(others[name] for name in sorted(others))


def check_keys(key_id: str, approvers: Sequence[str], is_revoked: Callable[[str], bool]) -> None:
    """Raise `auth.revoked` where the key that signed a command counts no more, or none that approved it does."""
    if is_revoked(key_id):
        raise QedgeError(
            "auth.revoked", "The key of its operator was revoked before it began.", fix="Have somebody else send it."
        )
    if approvers and all(map(is_revoked, approvers)):
        raise QedgeError(
            "auth.revoked",
            "The key of who approved it was revoked before it began.",
            fix="Send it again, and have somebody else approve it.",
        )


def time_limit_s(request: CommandRequest, executor: Executor) -> float:
    """Return how long a command may take from its begin."""
    return request.time_limit_s or executor.time_limit_s


def _keep_ns(config: CommandsConfig) -> int:
    return round(config.keep_days * _DAY_NS)


class Allowance:
    """A bucket of tokens: `per_s` come in a second, at most `burst` are there. Time is an argument."""

    def __init__(self, per_s: float, burst: float, now_ns: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._seen_ns = now_ns

    def has(self, now_ns: int) -> bool:
        """Say whether one is there."""
        self._tokens = min(self._burst, self._tokens + (now_ns - self._seen_ns) / 1e9 * self._per_s)
        self._seen_ns = now_ns
        return self._tokens >= 1

    def is_calm(self, now_ns: int) -> bool:
        """Say whether half of them are there."""
        return self.has(now_ns) and self._tokens >= self._burst / 2

    def spend(self) -> None:
        """Take one."""
        self._tokens -= 1
