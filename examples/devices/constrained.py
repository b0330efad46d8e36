"""A sensor that shares 32 bytes with its node: python constrained.py --state tag.json < line-of-the-invitation.

The first start reads the line that `qedge device add NAME --constrained` printed from standard input. Needs paho-mqtt
and qedge-device; on a radio without MQTT the same bytes go through a gateway.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from link import Link

from qedge_device import ConstrainedDevice, DeviceError, FrameError


def keep(device: ConstrainedDevice, file: Path) -> None:
    """Write what must survive a restart, before anything is sent: to a new file, which then replaces the old."""
    if device.changed:
        new = file.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(device.state())
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)


def connect(device: ConstrainedDevice, link: Link, file: Path) -> None:
    """Connect with a password that is good once."""
    password = device.password(link.client_id)
    keep(device, file)
    link.connect(device.username, password, [device.welcome_topic, device.down_topic])


def join(device: ConstrainedDevice, link: Link, file: Path) -> None:
    """Say hello until a session is open."""
    while device.needs_session:
        message = device.hello()
        keep(device, file)
        link.send(device.hello_topic, message)
        answer(device, link)


def answer(device: ConstrainedDevice, link: Link) -> None:
    """Wait for the node's answer; one to an earlier hello opens nothing, and that to the last is still to come."""
    while device.needs_session and (found := link.receive(10)) is not None:
        if found[0] != device.welcome_topic:
            continue
        try:
            device.receive(found[1])
        except DeviceError as error:
            if error.reason == "refused":
                time.sleep(device.retry_s)
                return


def obey(device: ConstrainedDevice, found: tuple[str, bytes]) -> None:
    """Carry out a command, or hear that the node wants a new session."""
    topic, payload = found
    with contextlib.suppress(DeviceError, FrameError):
        if topic == device.down_topic:
            command, body = device.open(payload)
            print(f"command {command}: {body.decode('utf-8', 'replace')}", flush=True)
        elif topic == device.welcome_topic:
            device.receive(payload)


def send_reading(device: ConstrainedDevice, link: Link, file: Path, pause_s: float) -> bool:
    """Send a reading and carry out a command that comes; False where the connection was lost and is made anew."""
    try:
        join(device, link, file)
        link.send(device.up_topic, device.seal("temperature", b"21.5"))
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


def run(device: ConstrainedDevice, link: Link, file: Path, readings: int, pause_s: float) -> None:
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
    parser.add_argument("--address", default="mqtt://127.0.0.1:1884", help="where the node listens for devices")
    parser.add_argument("--readings", type=int, default=10)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between readings")
    args = parser.parse_args()
    if args.state.exists():
        device = ConstrainedDevice.load(args.state.read_bytes(), random_bytes=os.urandom)
    else:
        device = ConstrainedDevice.from_invitation(sys.stdin.readline(), random_bytes=os.urandom)
    run(device, Link(args.address), args.state, args.readings, args.pause)


if __name__ == "__main__":
    main()
