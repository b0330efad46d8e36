"""Programs by their hash: nodes say which they keep, and a node that is asked to run another fetches it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.orchestrator.state.namespaces import NAMESPACES
from qedge.orchestrator.state.ports import StatePeers
from qedge.orchestrator.state.service import StateService
from qedge.wire.state import TemplateAsk, TemplateSent

_LOG: Final = get_logger("state")
_NAMESPACE: Final = "templates"
_ASK_LIMIT_S: Final = 5.0
_MOST_ASKED: Final = 4


class TemplateShelf(Protocol):
    """The programs of this node; `qedge.engine.templates` has them."""

    finder: Callable[[str], Awaitable[str | None]] | None
    """Looks for a program elsewhere; what it returns is kept where its hash is right."""

    on_kept: Callable[[str], None]
    """Hears of each program that was put on the shelf."""

    async def local(self, name: str) -> str | None:
        """Return a program of this shelf; None where it has none of this hash."""
        ...

    async def names(self, limit: int) -> Sequence[str]:
        """Return the hashes of the programs used last."""
        ...


class SharedTemplates:
    """Says what this node keeps, hands it to peers, and fetches what it lacks."""

    name = "shared-templates"

    def __init__(self, state: StateService, shelf: TemplateShelf, peers: StatePeers) -> None:
        self._state = state
        self._shelf = shelf
        self._peers = peers
        self._new: dict[str, None] = {}
        self._wake = asyncio.Event()
        shelf.finder = self.find
        shelf.on_kept = self._kept
        peers.serve(TemplateAsk, self._answer)

    async def run(self, ready: Ready) -> None:
        """Say what is kept, now and whenever something is added, until cancelled."""
        ready()
        most = NAMESPACES[_NAMESPACE].per_writer
        for name in reversed(await self._shelf.names(most)):
            self._kept(name)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._new:
                name = next(iter(self._new))
                del self._new[name]
                if name not in self._state.said(_NAMESPACE):
                    await self._say(name)

    async def find(self, name: str) -> str | None:
        """Ask nodes that say they keep a program; None where none hands it over."""
        alive = frozenset(self._peers.alive())
        holders = [entry.writer for entry in self._state.under(_NAMESPACE, name) if entry.writer in alive]
        for peer in holders[:_MOST_ASKED]:
            try:
                sent = await self._peers.call(peer, TemplateAsk(name), TemplateSent, deadline_s=_ASK_LIMIT_S)
            except QedgeError:
                continue  # it is gone, or has given the program up
            _LOG.info("state.template_fetched", peer=peer, template=name)
            return sent.program
        return None

    async def _say(self, name: str) -> None:
        try:
            await self._state.put(_NAMESPACE, name)
        except QedgeError as error:
            _LOG.warning("state.not_said", namespace=_NAMESPACE, key=name, code=error.code)

    async def _answer(self, _peer: str, asked: TemplateAsk) -> TemplateSent:
        program = await self._shelf.local(asked.template)
        if program is None:
            raise QedgeError("job.no_template", "This node keeps no such template any more.")
        return TemplateSent(program)

    def _kept(self, name: str) -> None:
        self._new.pop(name, None)
        self._new[name] = None
        while len(self._new) > NAMESPACES[_NAMESPACE].per_writer:
            del self._new[next(iter(self._new))]
        self._wake.set()
