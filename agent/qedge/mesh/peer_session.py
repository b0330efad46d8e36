"""One sealed session with one peer: its keys, and what goes through them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qedge.base.errors import QedgeError
from qedge.crypto.session import ExtraKey, Secret, SessionKeys, export_secret
from qedge.mesh.parts import Assembler
from qedge.wire.mesh import SessionView
from qedge.wire.session import Answer
from qedge_device.frame import FrameError

if TYPE_CHECKING:
    from qedge.crypto.handshake import Agreed

MQTT: Final = "mqtt"
DIRECT: Final = "direct"
MAX_SEEN: Final = 1024
EXPORTED_BYTES: Final = 32
MAX_HELD_BYTES: Final = 4 * 2**20
_CODES: Final = {"replay": "session.replayed", "key": "session.unknown"}


class AnsweredCalls:
    """A peer's questions that were seen, with their answers: one that comes again is not acted on twice."""

    def __init__(self) -> None:
        self._answers: OrderedDict[int, Answer | None] = OrderedDict()
        self._held_bytes = 0

    def is_new(self, call_id: int) -> bool:
        """Note a question; says whether it was not seen before."""
        if call_id in self._answers:
            return False
        self._answers[call_id] = None
        self._trim()
        return True

    def find(self, call_id: int) -> Answer | None:
        """Return the answer that was given, if it was and is still held."""
        return self._answers.get(call_id)

    def keep(self, answer: Answer) -> None:
        """Hold an answer for the case that it was lost; very large ones are not held."""
        if answer.id in self._answers and len(answer.body) <= MAX_HELD_BYTES // 4:
            self._answers[answer.id] = answer
            self._held_bytes += len(answer.body)
            self._trim()

    def _trim(self) -> None:
        while len(self._answers) > MAX_SEEN or self._held_bytes > MAX_HELD_BYTES:
            _, oldest = self._answers.popitem(last=False)
            self._held_bytes -= len(oldest.body) if oldest is not None else 0


class PeerSession:
    """A session that both sides agreed on. `mqtt` and `direct` are its two channels, each with its own keys.

    `restricted`: policy here wants an extra key and there was none; only what leads to one may be said.
    """

    def __init__(
        self,
        session: bytes,
        agreed: Agreed,
        *,
        is_client: bool,
        extra: ExtraKey | None,
        now_ns: int,
        utc_ns: int,
        restricted: bool = False,
    ) -> None:
        secret = Secret(agreed.suite.number, session, agreed.exported, is_client, extra)
        self.id = session
        self.peer = agreed.member.subject.name
        self.key_id = agreed.member.key_id
        self.theirs = agreed.theirs
        self.is_client = is_client
        self.opened_ns = now_ns
        self.assembler = Assembler()
        self.answered = AnsweredCalls()
        self._suite = agreed.suite.number
        self._group = agreed.group
        self.has_extra = extra is not None
        self.restricted = restricted
        self._opened_utc_ns = utc_ns
        self._export = export_secret(secret, "node", EXPORTED_BYTES)
        self._keys = {channel: SessionKeys(secret, channel, now_ns) for channel in (MQTT, DIRECT)}

    def succeed(self, before: PeerSession) -> None:
        """Go on where an earlier session with the same run of the peer was, so that no question is acted on twice."""
        if before.theirs.epoch == self.theirs.epoch:
            self.answered = before.answered

    def export(self, label: str) -> bytes:
        """Return a secret of 32 bytes for the purpose `label`, which the peer gets from the same session."""
        return HKDF(SHA256(), EXPORTED_BYTES, None, b"qedge/v1 export for " + label.encode()).derive(self._export)

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
        return SessionView("open", self._suite, self._group, path, self.has_extra, self._opened_utc_ns, self.restricted)
