"""A thermometer with post-quantum keys of its own: python rich.py --state meter.json < line-of-the-invitation.

The first start reads the line that `qedge device add NAME` printed from standard input; later ones need the state only.
Prints commands that come. Needs paho-mqtt and qedge-device with cryptography 50 or newer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from link import Link

from qedge_device import DeviceError, FrameError
from qedge_device.rich import RichDevice


def keep(device: RichDevice, file: Path) -> None:
    """Write what must survive a restart, before anything is sent: to a new file, which then replaces the old."""
    if device.changed:
        new = file.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(device.state())
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)


def connect(device: RichDevice, link: Link, file: Path) -> None:
    """Connect under the name that counts now, with a password that is good once."""
    password = device.password(link.client_id)
    keep(device, file)
    link.connect(device.username, password, [device.welcome_topic, device.down_topic])


def open_session(device: RichDevice, link: Link, file: Path) -> None:
    """Say hello until a session is open; enrols first where that is due."""
    while device.needs_session(time.monotonic()):
        who, message = device.username, device.hello()
        keep(device, file)
        while message is not None:
            link.send(device.hello_topic, message)
            message = answer(device, link)
            keep(device, file)
        if device.username != who:
            connect(device, link, file)  # enrolled: from now on under its own name


def answer(device: RichDevice, link: Link) -> bytes | None:
    """Wait for the node's next word and return what to say to it; None where there is nothing to say now."""
    while (found := link.receive(10)) is not None:
        if found[0] != device.welcome_topic:
            continue
        try:
            return device.receive(found[1], time.monotonic())
        except DeviceError as error:
            if error.reason in ("pending", "refused"):
                time.sleep(device.retry_s)
                return None
            # an answer to an earlier hello opens nothing, and that to the last is still to come
    device.forget_session()
    return None


def obey(device: RichDevice, found: tuple[str, bytes]) -> None:
    """Carry out a command, or hear that the node wants a new session."""
    topic, payload = found
    with contextlib.suppress(DeviceError, FrameError):
        if topic == device.down_topic:
            command, body = device.open(payload)
            print(f"command {command}: {body.decode('utf-8', 'replace')}", flush=True)
        elif topic == device.welcome_topic:
            device.receive(payload, time.monotonic())


def send_reading(device: RichDevice, link: Link, file: Path, pause_s: float) -> bool:
    """Send a reading and carry out a command that comes; False where the connection was lost and is made anew."""
    try:
        open_session(device, link, file)
        link.send(device.up_topic, device.seal("temperature", b"21.5", time.monotonic()))
        found = link.receive(pause_s)
        if found is not None:
            obey(device, found)
    except OSError:
        time.sleep(pause_s)
        device.end_session()  # the node may have started anew, and know none of us
        with contextlib.suppress(OSError):
            connect(device, link, file)
        return False
    return True


def run(device: RichDevice, link: Link, file: Path, readings: int, pause_s: float) -> None:
    """Send readings; comes back by itself after the connection was lost."""
    connect(device, link, file)
    sent = 0
    while sent < readings:
        sent += send_reading(device, link, file, pause_s)
    link.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="file that only this device may read")
    parser.add_argument("--readings", type=int, default=10)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between readings")
    args = parser.parse_args()
    if args.state.exists():
        device = RichDevice.load(args.state.read_bytes(), random_bytes=os.urandom)
    else:
        device = RichDevice.from_invitation(sys.stdin.readline(), random_bytes=os.urandom)
    run(device, Link(device.kept.address), args.state, args.readings, args.pause)


if __name__ == "__main__":
    main()
