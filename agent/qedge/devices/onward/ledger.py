"""What segments write down in the spool's file: numbers of epochs, and commands with a key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from qedge.devices.onward import spool
from qedge.devices.segments.ports import KnownCommand
from qedge.store.store import Store


class GatewayLedger:
    """Implements `EpochKeep` and `CommandJournal`; raises `store.*`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reserved(self) -> Mapping[str, int]:
        """Return for each segment the first number that was never taken."""
        return await self._store.read(spool.reserved)

    async def reserve(self, segment: str, upto: int) -> None:
        """Take numbers; done on a full disk too where it can be, for without them nothing of a segment goes out."""
        await self._store.write(partial(spool.reserve, segment=segment, upto=upto), accepted=True)

    async def begin(self, client: str, key: str, digest: bytes, request: bytes, utc_ns: int) -> KnownCommand | None:
        """Write a command down before it is sent."""
        return await self._store.write(
            partial(spool.begin_command, client=client, key=key, digest=digest, request=request, utc_ns=utc_ns)
        )

    async def end(self, client: str, key: str, outcome: str, detail: str) -> None:
        """Write down how it ended."""
        await self._store.write(
            partial(spool.end_command, client=client, key=key, outcome=outcome, detail=detail), accepted=True
        )
