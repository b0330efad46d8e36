"""What a rich device keeps across restarts."""

from __future__ import annotations

from dataclasses import dataclass

from qedge_device.enrolling import Enrolled, Invitation
from qedge_device.kept import Kept


@dataclass
class RichState:
    """Names, keys and counter of a rich device; before enrolment `node_key` is empty and `token` may be set."""

    fleet: str
    node: str
    device: str
    address: str
    guest: str
    pin: bytes
    token: bytes
    parameter: int
    seed: bytes
    extra_id: str
    extra: bytes
    counter: int = 0
    node_parameter: int = 0
    node_key: bytes = b""
    kem: bytes = b""
    certificate: bytes = b""
    secret: bytes = b""
    suite: int = 1
    resumption: bytes = b""

    def __repr__(self) -> str:
        return f"RichState({self.device!r})"

    @classmethod
    def invited(cls, invitation: Invitation, device: str, parameter: int, seed: bytes) -> RichState:
        """Begin with an invitation."""
        return cls(
            invitation.fleet,
            invitation.node,
            device,
            invitation.address,
            invitation.guest,
            invitation.pin,
            invitation.token,
            parameter,
            seed,
            invitation.extra_id,
            invitation.extra,
        )

    @classmethod
    def read(cls, kept: Kept) -> RichState:
        """Read what was kept; raises `DeviceError` (`state`)."""
        return cls(
            kept.text("fleet"),
            kept.text("node"),
            kept.text("device"),
            kept.text("address"),
            kept.text("guest"),
            kept.bytes("pin"),
            kept.bytes("token"),
            kept.number("parameter"),
            kept.bytes("seed"),
            kept.text("extra_id"),
            kept.bytes("extra"),
            kept.number("counter"),
            kept.number("node_parameter"),
            kept.bytes("node_key"),
            kept.bytes("kem"),
            kept.bytes("certificate"),
            kept.bytes("secret"),
            kept.number("suite"),
            kept.bytes("resumption"),
        )

    def values(self) -> dict[str, bytes | str | int]:
        """Return everything by name."""
        return {
            "fleet": self.fleet,
            "node": self.node,
            "device": self.device,
            "address": self.address,
            "guest": self.guest,
            "pin": self.pin,
            "token": self.token,
            "parameter": self.parameter,
            "seed": self.seed,
            "extra_id": self.extra_id,
            "extra": self.extra,
            "counter": self.counter,
            "node_parameter": self.node_parameter,
            "node_key": self.node_key,
            "kem": self.kem,
            "certificate": self.certificate,
            "secret": self.secret,
            "suite": self.suite,
            "resumption": self.resumption,
        }

    def enrol(self, enrolled: Enrolled, secret: bytes) -> None:
        """Become what the node said; the token is forgotten."""
        self.device, self.certificate, self.kem = enrolled.device, enrolled.certificate, enrolled.kem
        self.node_parameter, self.node_key = enrolled.parameter, enrolled.node_key
        self.secret, self.token, self.guest, self.resumption = secret, b"", "", b""
