"""The policy of the node that tests use: the real engine and files, and any signature is believed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qedge.base.errors import QedgeError
from qedge.security.policy.document import parse_document
from qedge.security.policy.engine import PolicyEngine
from qedge.wire.policy import PolicyBundle, PolicyView, RecordCommand, RecordedRequests, SignedPolicy


class FakePolicy:
    """A policy that is read from `file` when told to; `recorded` is what it hands out as recorded."""

    def __init__(self) -> None:
        self.engine = PolicyEngine()
        self.file: Path | None = None
        self.taken: list[PolicyBundle] = []
        self.recorded = RecordedRequests()
        self._view = PolicyView("none", 0, 0)

    def view(self) -> PolicyView:
        """Describe it."""
        return self._view

    async def reload(self) -> PolicyView:
        """Read the file, unless there is a policy of the fleet."""
        if self.file is not None and not self.taken:
            self.engine.load(self.file.read_bytes(), str(self.file))
            self._show("file", 0)
        return self._view

    async def take(self, signed: bytes) -> PolicyView:
        """Take a bundle."""
        try:
            body = msgspec.msgpack.decode(signed, type=SignedPolicy).body
            bundle = msgspec.msgpack.decode(body, type=PolicyBundle)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise QedgeError("policy.bad_bundle", "A signed policy cannot be read.") from error
        if self.taken and bundle.serial <= self.taken[-1].serial:
            raise QedgeError("policy.old", "It is not newer.", fix="Sign it again.")
        self.engine.swap(self.engine.compile(parse_document(bundle.text)))
        self.taken.append(bundle)
        self._show("fleet", bundle.serial)
        return self._view

    async def record(self, command: RecordCommand) -> RecordedRequests:
        """Return what stands in `recorded`."""
        return RecordedRequests(self.recorded.requests[: command.count])

    def _show(self, source: str, serial: int) -> None:
        document = self.engine.document
        self._view = PolicyView(source, len(document.rules), len(document.segments), serial=serial)
