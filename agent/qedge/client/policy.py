"""The node's policy, as methods of its client."""

from __future__ import annotations

from typing import Final

from qedge.client.fleet import Transport
from qedge.wire.policy import PolicyNotice, PolicyView, RecordCommand, RecordedRequest, RecordedRequests

_SLACK_S: Final = 10.0


class PolicyClient:
    """The policy in force; every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def show(self) -> PolicyView:
        """Describe it."""
        return await self._transport.ask("GET", "/v1/policy", PolicyView)

    async def reload(self) -> PolicyView:
        """Have the node read its file again."""
        return await self._transport.ask("POST", "/v1/policy/reload", PolicyView)

    async def take(self, signed: bytes) -> PolicyView:
        """Give the node a policy that its fleet's authority signed; it tells all peers."""
        return await self._transport.ask("PUT", "/v1/policy", PolicyView, body=PolicyNotice(signed))

    async def record(self, command: RecordCommand) -> tuple[RecordedRequest, ...]:
        """Have the node record the next requests, which takes up to `seconds`."""
        limit_s = command.seconds + _SLACK_S
        answer = await self._transport.ask(
            "POST", "/v1/policy/recordings", RecordedRequests, body=command, timeout_s=limit_s
        )
        return answer.requests
