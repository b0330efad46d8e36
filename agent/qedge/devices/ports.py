"""What parts of the gateway need from each other and from rooms beside it; the daemon and `service` fill them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qedge.devices.model import DeviceSession
from qedge.security.model import Action, Decision, Evidence, Resource, Subject


class SessionBook(Protocol):
    """The sessions of this node's devices. Never waits."""

    def find(self, device_id: str, frame: bytes) -> DeviceSession | None:
        """Return the session of a device that a frame says it belongs to; what is no frame belongs to none."""
        ...

    def current(self, device_id: str) -> DeviceSession | None:
        """Return the session that messages to a device are sealed in."""
        ...

    def close(self, device_id: str) -> None:
        """Forget the keys of all sessions of a device."""
        ...


class Greeter(Protocol):
    """Makes sessions: what a device sends on its `hello` topic goes in, what goes back on `welcome` comes out."""

    async def greet(self, device_id: str, message: bytes) -> bytes:
        """Take one step of a handshake, of a resumption or of an enrolment; raises `QedgeError` for what is refused."""
        ...


class Doorman(Protocol):
    """Checks what a device says at CONNECT, before anything else of it is read."""

    async def check(self, client_id: str, username: str, password: bytes) -> Subject | None:
        """Return who that is, or None. A guest that may only enrol is a subject with the id of its invitation.

        Raises `device.refused` where the proof is good and was used before: it comes late or again, which is no guess.
        """
        ...


class Way(Protocol):
    """A way to devices: the direct listener or the broker."""

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Hand a message over for delivery; False where the device is not to be reached this way."""
        ...

    def cut(self, device_id: str) -> bool:
        """Close the device's connection now; False where it has none here."""
        ...


class DeviceKeys(Protocol):
    """Keys of another source for devices, from the key store (QKD). Both raise `device.no_key`."""

    async def fresh(self, device_id: str) -> tuple[str, bytes]:
        """Take a key of 32 bytes for good, a copy of which the device gets by cable or screen; returns id and key."""
        ...

    async def collect(self, device_id: str, key_id: str) -> bytes:
        """Take, once, the key that a device has under this id from a key manager of its own."""
        ...


class Consumer(Protocol):
    """Takes readings that policy has let through, for an app, a segment or the way upstream. Never waits."""

    def take(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        """Take one reading of a device, in the order in which the device sent them."""
        ...


class Witness(Protocol):
    """Hears what the enforcement point refused or found odd, for audit and trust. Never raises, never waits."""

    def denied(
        self, subject: Subject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
    ) -> None:
        """Note a decision that did not permit; None is a subject that nobody knows."""
        ...

    def odd(self, device_id: str, evidence: Evidence, now_ns: int, utc_ns: int) -> None:
        """Note something that only this device can have done."""
        ...


class Keeper(Protocol):
    """Knows when readings that consumers took are safe, so that QoS 1 is not acknowledged before. Never waits."""

    def when_safe(self, then: Callable[[], None]) -> bool:
        """Return True where all that was taken so far is safe; otherwise False, and call `then` once it is."""
        ...


class Audience(Protocol):
    """Who hears what segments say. What is said goes to a device by `Way.send` on the topic it joined. Never waits."""

    def join(self, subject: Subject, topic: str, now_ns: int, utc_ns: int) -> bool:
        """Let a device listen to a topic of a segment where policy permits; False where it does not."""
        ...

    def leave(self, device_id: str, topic: str) -> None:
        """Send nothing more of a topic to a device."""
        ...
