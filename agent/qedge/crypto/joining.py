"""Invitations and what is said with them. Pure.

An invitation is one line: `qedge1:` and base64url of MessagePack. It names the inviting node, its broker, the pin of
the fleet's anchor, and a one-time token. Request and answer carry an HMAC-SHA-256 (RFC 2104) under keys that HKDF
(RFC 5869) derives from the token's secret, one for each direction; the broker in between learns neither.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.trust import pin
from qedge.wire.mesh import Name
from qedge.wire.trust import BrokerAddress, JoinAnswer, JoinRequest, Membership, SigningRequest, Utc

PREFIX: Final = "qedge1:"
TOKEN_BYTES: Final = 8
SECRET_BYTES: Final = 16
NONCE_BYTES: Final = 16
MAX_LINE: Final = 4096
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    """What the line says. `token` names it, `secret` proves it; both are good once, until `expires_utc_ns`."""

    fleet: Name
    inviter: Name
    level: Annotated[int, msgspec.Meta(ge=3, le=5)]
    broker: BrokerAddress
    pin: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    token: Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    expires_utc_ns: Utc

    def __repr__(self) -> str:
        return f"Invitation({self.fleet!r}, {self.inviter!r})"


def write_invitation(invitation: Invitation) -> str:
    """Write the line; it is a secret until its token was used."""
    return PREFIX + base64.urlsafe_b64encode(_ENCODE(invitation)).decode().rstrip("=")


def read_invitation(text: str) -> Invitation:
    """Read the line; raises `fleet.bad_invitation`, which never quotes it."""
    line = text.strip()
    try:
        if not line.startswith(PREFIX) or len(line) > MAX_LINE:
            raise ValueError("no invitation")
        body = line[len(PREFIX) :]
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=Invitation)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError):
        raise QedgeError(
            "fleet.bad_invitation",
            "This is no invitation, or a part of it is missing.",
            fix="Copy the whole line that `qedge fleet invite` printed; it begins with qedge1:.",
        ) from None


def make_request(invitation: Invitation, request: SigningRequest, random_bytes: RandomBytes) -> JoinRequest:
    """Make the request of a box that was invited."""
    bare = JoinRequest(invitation.token, random_bytes(NONCE_BYTES), request, bytes(32))
    return msgspec.structs.replace(bare, proof=_proof(invitation.secret, "request", _ENCODE(bare)))


def check_request(invitation: Invitation, request: JoinRequest, utc_ns: int) -> None:
    """Check a request against the invitation it names; raises `fleet.join_refused` or `fleet.expired`."""
    bare = msgspec.structs.replace(request, proof=bytes(32))
    expected = _proof(invitation.secret, "request", _ENCODE(bare))
    if request.token != invitation.token or not hmac.compare_digest(request.proof, expected):
        raise QedgeError("fleet.join_refused", "The request does not prove the invitation.")
    if utc_ns > invitation.expires_utc_ns:
        raise QedgeError("fleet.expired", "The invitation has expired.", fix="Make a new one: `qedge fleet invite`.")


def make_answer(invitation: Invitation, request: JoinRequest, outcome: Membership | QedgeError) -> JoinAnswer:
    """Answer a request with a membership or the reason for a refusal."""
    if isinstance(outcome, QedgeError):
        bare = JoinAnswer(bytes(32), code=outcome.code, message=str(outcome)[:500])
    else:
        bare = JoinAnswer(bytes(32), membership=outcome)
    return msgspec.structs.replace(bare, proof=_proof(invitation.secret, "answer", request.nonce + _ENCODE(bare)))


def check_answer(invitation: Invitation, request: JoinRequest, answer: JoinAnswer) -> Membership:
    """Check an answer and return the membership.

    Raises `fleet.join_refused` for an answer that nobody with the invitation made, or whose anchor is not the one of
    the invitation's pin, and the error with which the authority refused.
    """
    bare = msgspec.structs.replace(answer, proof=bytes(32))
    expected = _proof(invitation.secret, "answer", request.nonce + _ENCODE(bare))
    if not hmac.compare_digest(answer.proof, expected):
        raise QedgeError("fleet.join_refused", "An answer came that the fleet did not make.", fix=_AGAIN)
    if answer.membership is None:
        code = answer.code if answer.code.startswith(("fleet.", "auth.")) else "fleet.join_refused"
        try:
            raise QedgeError(code, answer.message)
        except ValueError:
            raise QedgeError("fleet.join_refused", answer.message) from None
    if not hmac.compare_digest(pin(answer.membership.anchor), invitation.pin):
        raise QedgeError("fleet.join_refused", "The answer is of another fleet than the invitation.", fix=_AGAIN)
    return answer.membership


def _proof(secret: bytes, direction: str, data: bytes) -> bytes:
    info = b"qedge/v1 join " + direction.encode()
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
    return hmac.digest(key, data, "sha256")


_AGAIN: Final = "Somebody may stand between the boxes; make a new invitation."
