"""`python -m tests.fuzz.frames [SECONDS]`: a coverage-guided run of what frames and hellos carry (needs `atheris`).

The first byte of an input says who takes the rest: the node as a hello, a password or the inside of a frame that a
device has sealed well, or a device as a welcome, a command or a key of a group. Whatever it says ends in a value that
is written as it was read, or in the error that the reader promises, and nothing is taken that was not proved.
Executions and covered edges are printed at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["qedge.devices", "qedge.wire.attached", "qedge_device"]):
    from qedge.devices.enforcement import Outcome
    from qedge.wire.attached import unpack_reading
    from qedge_device import messages, schedule
    from qedge_device.commands import unpack_command, unpack_done, unpack_key_request
    from qedge_device.constrained import ConstrainedDevice
    from qedge_device.enrolling import Enrol, Enrolled, Invitation, KemStatement
    from qedge_device.frame import FrameError, Opener, Suite
    from qedge_device.group import GroupError, GroupReader, pack_group_key, unpack_group_key
    from qedge_device.kept import Kept
    from qedge_device.reading import DeviceError
    from qedge_device.rich import RichDevice
    from qedge_device.rich_state import RichState
    from qedge_device.short import ShortOpener

from tests.fuzz.course import run
from tests.unit.devices.ways_in.dialogue_site import DialogueSite

MESSAGES: tuple[Any, ...] = (
    messages.Ask,
    messages.Challenge,
    messages.Prove,
    messages.Opened,
    messages.Resume,
    messages.Resumed,
    messages.Join,
    messages.Joined,
    messages.Pending,
    messages.Refused,
    Enrol,
    Enrolled,
    KemStatement,
)
FIRSTS = (0x01, 0x81, 0x02, 0x82, 0x03, 0x83, 0x04, 0x84, 0x86, 0x87, 0x05, 0x85, 0x41)
ROOT = Path(__file__).resolve().parents[2]
KEY, IV = bytes(range(32)), bytes(12)
INVITATION = Invitation("lab", "box", "", "_g", "m", bytes(32), 1 << 40, bytes(16), b"", "", b"")


def check(data: bytes) -> None:
    """Give one input to the reader that its first byte names."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def message(data: bytes) -> None:
    """Read a message of a hello or a welcome; one that is read is written the same."""
    for kind in MESSAGES:
        with contextlib.suppress(messages.MessageError):
            if kind.read(data).pack() != data:
                raise AssertionError(f"{kind.__name__} is written otherwise")


def inside(data: bytes) -> None:
    """Take what a device has sealed well, whatever it is."""
    site = DialogueSite()
    frame = site.device.sealer.seal(data, site.device.up_topic)
    outcome = site.enforcement.up("d", site.device.up_topic, frame, site.now_ns, 0)
    if outcome not in (Outcome.TAKEN, Outcome.MALFORMED):
        raise AssertionError(f"a good frame ends as {Outcome(outcome).name}")
    if (outcome == Outcome.TAKEN) != bool(site.bodies):
        raise AssertionError("a reading is counted and not handed on, or the other way round")
    with contextlib.suppress(ValueError):
        unpack_reading(data)
    for read in (unpack_command, unpack_done, unpack_key_request):
        with contextlib.suppress(ValueError):
            read(data)


def frame(data: bytes) -> None:
    """Open what nobody has sealed."""
    openers = (Opener(Suite.AES_256_GCM, KEY, IV, 7), ShortOpener(KEY, bytes(13), 1))
    for opener in openers:
        with contextlib.suppress(FrameError):
            opener.open(data, "t")
            raise AssertionError("a forged frame opens")
    group = GroupReader("qedge/v1/f/n/seg/s")
    with contextlib.suppress(ValueError):
        key = unpack_group_key(data)
        if pack_group_key(key) != data:
            raise AssertionError("a key of a group is written otherwise")
        group.take(key)
    with contextlib.suppress(GroupError):
        group.open("a", data)
        raise AssertionError("a forged frame of a group opens")


def welcome(data: bytes) -> None:
    """Answer a device that is about to enrol; nothing makes it believe that it is."""
    device = stranger()
    device.hello()
    with contextlib.suppress(DeviceError):
        device.receive(data, 0.0)
    with contextlib.suppress(DeviceError, FrameError):
        device.open(data)
        raise AssertionError("a command comes out of nothing")
    if device.is_enrolled:
        raise AssertionError("a device believes a stranger")


def stranger() -> RichDevice:
    """Make a device that has its invitation and nothing else."""
    return RichDevice(RichState.invited(INVITATION, "m", 44, bytes(32)), random_bytes=bytes)


def text(data: bytes) -> None:
    """Read what people and files hand over."""
    with contextlib.suppress(ValueError):
        schedule.read_connect_password(data)
    with contextlib.suppress(messages.MessageError):
        Invitation.read(data.decode("utf-8", "replace"))
    with contextlib.suppress(DeviceError):
        RichState.read(Kept(data))
    with contextlib.suppress(DeviceError):
        ConstrainedDevice.load(data, random_bytes=bytes)


READERS: tuple[Callable[[bytes], None], ...] = (message, inside, frame, welcome, text)


def seeds(folder: Path) -> None:
    """Write what to begin with: the first bytes of all messages, the vectors for makers, lines and frames."""
    file = (ROOT / "tests" / "vectors" / "device-sessions.json").read_text("ascii")
    texts = [bytes([first]) + bytes(80) for first in FIRSTS]
    texts += [bytes.fromhex(word) for word in file.split('"') if len(word) % 2 == 0 and _is_hex(word)]
    texts += [b"\x01t1", b"\x05_donexxxxxxxx\x00ok", b"\x04_keyhall/a,b", INVITATION.write().encode()]
    texts += [
        b"\x01s" + bytes(4) + b"\x01a" + bytes(32),
        RichState.invited(INVITATION, "m", 44, bytes(32)).device.encode(),
    ]
    for number, each in enumerate(texts):
        for reader in range(len(READERS)):
            (folder / f"{number}-{reader}").write_bytes(bytes([reader]) + each)


def _is_hex(word: str) -> bool:
    return len(word) >= 16 and all(letter in "0123456789abcdef" for letter in word)


if __name__ == "__main__":
    run(check, seeds, most_bytes=8192)
