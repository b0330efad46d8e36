"""One sealed session with one peer: its keys, and what goes through them. Pure."""

from __future__ import annotations

from typing import Final

from qedge.base.errors import QedgeError
from qedge.crypto.handshake import Agreed
from qedge.crypto.session import ExtraKey, Secret, SessionKeys
from qedge.mesh.parts import Assembler
from qedge.wire.mesh import SessionView
from qedge_device.frame import FrameError

MQTT: Final = "mqtt"
DIRECT: Final = "direct"
_CODES: Final = {"replay": "session.replayed", "key": "session.unknown"}


class PeerSession:
    """A session that both sides agreed on. `mqtt` and `direct` are its two channels, each with its own keys."""

    def __init__(
        self, session: bytes, agreed: Agreed, *, is_client: bool, extra: ExtraKey | None, now_ns: int, utc_ns: int
    ) -> None:
        secret = Secret(agreed.suite.number, session, agreed.exported, is_client, extra)
        self.id = session
        self.peer = agreed.member.subject.name
        self.key_id = agreed.member.key_id
        self.theirs = agreed.theirs
        self.is_client = is_client
        self.opened_ns = now_ns
        self.assembler = Assembler()
        self._suite = agreed.suite.number
        self._group = agreed.group
        self._has_extra = extra is not None
        self._opened_utc_ns = utc_ns
        self._keys = {channel: SessionKeys(secret, channel, now_ns) for channel in (MQTT, DIRECT)}

    def key_ids(self, channel: str) -> tuple[int, ...]:
        """Return the ids under which frames of this channel may come now."""
        return self._keys[channel].key_ids

    def seal(self, channel: str, data: bytes, topic: str, now_ns: int) -> bytes:
        """Seal `data`; raises `session.failed` where the session is used up."""
        try:
            return self._keys[channel].seal(data, topic, now_ns)
        except FrameError as error:
            raise QedgeError("session.failed", f"The session with {self.peer} is used up ({error.reason}).") from None

    def open(self, channel: str, frame: bytes, topic: str) -> bytes:
        """Open a frame; raises `session.replayed`, `session.unknown`, `session.bad_frame`, and changes nothing then."""
        try:
            return self._keys[channel].open(frame, topic)
        except FrameError as error:
            code = _CODES.get(error.reason, "session.bad_frame")
            raise QedgeError(code, f"A frame has no effect: {error.reason}.") from None

    def view(self, path: str) -> SessionView:
        """Describe the session."""
        return SessionView("open", self._suite, self._group, path, self._has_extra, self._opened_utc_ns)
