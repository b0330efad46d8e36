"""The serial of the fleet's policy: each node says which it enforces, and who is behind asks who is not.

The bundle itself goes over its retained topic. This finds out where a broker lost or holds it back, since each word on
a serial is signed and compared, and the bundle, which the authority signed, can then be had from any node that has it.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.ports import StatePeers
from qedge.orchestrator.state.service import StateService
from qedge.wire.policy import PolicyNotice, PolicyView
from qedge.wire.state import PolicyAsk

_LOG: Final = get_logger("state")
_NAMESPACE: Final = "policy"
_KEY: Final = "serial"
_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 2.0
"""The retained topic is the shorter way; only what does not come on it is asked for."""
_ASK_LIMIT_S: Final = 10.0


class PolicyHolder(Protocol):
    """The policy of this node; `qedge.security.policy` has it."""

    def view(self) -> PolicyView:
        """Describe it."""
        ...

    def newest(self) -> bytes:
        """Return the fleet's newest bundle as it was signed; empty where there is none."""
        ...

    async def take(self, signed: bytes) -> PolicyView:
        """Take a bundle that the authority signed; raises `policy.*`, `auth.*`."""
        ...


class PolicyFollower:
    """Keeps this node at the highest serial that a peer enforces."""

    name = "shared-policy"

    def __init__(self, state: StateService, policy: PolicyHolder, peers: StatePeers) -> None:
        self._state = state
        self._policy = policy
        self._peers = peers
        self._said = 0
        self._ahead: dict[str, int] = {}
        state.watch(_NAMESPACE, self._heard)
        peers.serve(PolicyAsk, self._answer)

    async def run(self, ready: Ready) -> None:
        """Look again and again, until cancelled."""
        ready()
        for entry in self._state.under(_NAMESPACE, _KEY):
            self._heard(entry)
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Say a new serial of this node, and ask one node that has a higher one."""
        serial = self._policy.view().serial
        if serial > self._said:
            try:
                await self._state.put(_NAMESPACE, _KEY, serial=serial)
                self._said = serial
            except QedgeError as error:
                _LOG.warning("state.not_said", namespace=_NAMESPACE, key=_KEY, code=error.code)
        ahead = {node: theirs for node, theirs in self._ahead.items() if theirs > serial}
        self._ahead = dict(ahead)
        if not ahead:
            return
        await asyncio.sleep(_PATIENCE_S)
        if self._policy.view().serial > serial:
            return
        node = max(ahead, key=lambda each: ahead[each])
        # Once: a member may claim any serial, and only the authority's signature shows that there is one.
        del self._ahead[node]
        await self._fetch(node, serial)

    async def _fetch(self, node: str, serial: int) -> None:
        if node not in self._peers.alive():
            return
        try:
            notice = await self._peers.call(node, PolicyAsk(serial), PolicyNotice, deadline_s=_ASK_LIMIT_S)
            view = await self._policy.take(notice.signed)
        except QedgeError as error:
            _LOG.debug("state.not_compared", peer=node, scope=_NAMESPACE, code=error.code)
        else:
            _LOG.info("state.policy_fetched", peer=node, serial=view.serial)

    async def _answer(self, _peer: str, asked: PolicyAsk) -> PolicyNotice:
        signed = self._policy.newest()
        if not signed or self._policy.view().serial <= asked.newer_than:
            raise QedgeError("policy.old", "This node has no newer policy.")
        return PolicyNotice(signed)

    def _heard(self, entry: Entry) -> None:
        if entry.writer != self._state.node and entry.said.key == _KEY:
            self._ahead[entry.writer] = entry.said.serial
