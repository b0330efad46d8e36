"""What became of commands: reports go in, views come out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from qedge.client.fleet_tool.model import Ending, SentCommand, ending_of
from qedge.wire.commands import CommandReport, CommandRequest

SLACK_NS: Final = 30_000_000_000
"""How long after its expiry or its time limit a node's last word is waited for."""


_OUTLIVED: Final = (
    "order.key_changed",
    "The node has another key than the order names; perhaps it was enrolled anew. Send it again where it is still due.",
)


class Watch:
    """Commands of one operator under way, by node and id."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, str], SentCommand] = {}
        self._limits: dict[tuple[str, str], float] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._outlived: dict[tuple[str, str], int] = {}
        self._open = 0

    @property
    def open(self) -> int:
        """How many have not ended."""
        return self._open

    def views(self) -> Iterator[SentCommand]:
        """Give all commands, in the order in which they were sent."""
        yield from self._views.values()

    def view(self, node: str, command_id: str) -> SentCommand | None:
        """Return one command, None for one that is not watched."""
        return self._views.get((node, command_id))

    def sent(self, request: CommandRequest, operator: str) -> SentCommand:
        """Begin to watch a command; one that is watched already stays as it is."""
        key = request.node, request.id
        known = self._views.get(key)
        if known is not None:
            return known
        view = SentCommand(
            id=request.id,
            node=request.node,
            kind=request.kind,
            ending=Ending.WAITING,
            operator=operator,
            issued_utc_ns=request.issued_utc_ns,
            expires_utc_ns=request.expires_utc_ns,
        )
        self._views[key] = view
        self._limits[key] = request.time_limit_s
        if request.node_key is not msgspec.UNSET:
            self._keys[key] = request.node_key
        self._open += 1
        return view

    def reported(self, node: str, report: CommandReport) -> SentCommand | None:
        """Take a report that `node` signed; returns the view where it says something new.

        Nothing follows a node's own end of a command; a word that comes after all goes before what was only supposed.
        """
        key = node, report.id
        known = self._views.get(key)
        if known is None or report.revision <= known.revision:
            return None
        if known.ending in (Ending.SUCCESSFUL, Ending.FAILED):
            return None
        ending = ending_of(report.state)
        view = msgspec.structs.replace(
            known,
            ending=ending,
            state=report.state,
            step=report.step,
            progress=report.progress,
            reason=report.reason,
            code=report.code,
            revision=report.revision,
            result=report.result,
            ended_utc_ns=report.utc_ns if ending in (Ending.SUCCESSFUL, Ending.FAILED) else 0,
        )
        self._put(key, view)
        return view

    def withdrawn(self, node: str, command_id: str, utc_ns: int) -> SentCommand | None:
        """Note that a request was taken back; what the node has begun is not ended by that."""
        known = self._views.get((node, command_id))
        if known is None or known.ending is not Ending.WAITING:
            return None
        view = msgspec.structs.replace(known, ending=Ending.WITHDRAWN, ended_utc_ns=utc_ns)
        self._put((node, command_id), view)
        return view

    def overdue(
        self,
        utc_ns: int,
        key_of: Callable[[str], str | None] = lambda _node: None,
        limit_of: Callable[[str, str], float] = lambda _node, _kind: 0.0,
    ) -> list[SentCommand]:
        """Give up on commands whose time is over, or that are for a key which their node has no more; return them.

        `key_of` says of a node the id of its present key, as far as it is known. A node with another key still tells
        what it did before, so its word is waited for. `limit_of` says how long a node lets a kind of command take whose
        request does not say (seconds; 0: not known, so for ever).
        """
        late = []
        for key, view in self._views.items():
            if view.ended:
                continue
            if view.ending is Ending.WAITING and utc_ns > view.expires_utc_ns + SLACK_NS:
                ending = Ending.EXPIRED
            elif (
                limit_s := self._limits[key] or limit_of(view.node, view.kind)
            ) and utc_ns > view.expires_utc_ns + round(limit_s * 1e9) + SLACK_NS:
                ending = Ending.SILENT
            elif self._has_outlived(key, view, key_of, utc_ns):
                ending = Ending.OUTLIVED
            else:
                continue
            code, reason = _OUTLIVED if ending is Ending.OUTLIVED else (view.code, view.reason)
            late.append(msgspec.structs.replace(view, ending=ending, ended_utc_ns=utc_ns, code=code, reason=reason))
        for view in late:
            self._put((view.node, view.id), view)
        return late

    def _has_outlived(
        self, key: tuple[str, str], view: SentCommand, key_of: Callable[[str], str | None], utc_ns: int
    ) -> bool:
        wanted, present = self._keys.get(key), key_of(view.node)
        if view.ending is not Ending.WAITING or not wanted or not present or wanted == present:
            return False
        return utc_ns > self._outlived.setdefault(key, utc_ns) + SLACK_NS

    def _put(self, key: tuple[str, str], view: SentCommand) -> None:
        self._open -= view.ended - self._views[key].ended
        self._views[key] = view
