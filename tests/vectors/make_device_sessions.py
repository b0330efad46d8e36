"""Makes `device-sessions.json`: `python -m tests.vectors.make_device_sessions`, after a change of the protocol only.

HPKE and ML-DSA draw their own randomness, so what they made is recorded once; whoever implements the device side checks
that from the secrets given the same keys, MACs and frames come out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from qedge_device import agreement, schedule
from qedge_device.agreement import XWingKey
from qedge_device.enrolling import KemStatement
from qedge_device.messages import Joined, Opened, Prove, Resumed
from qedge_device.rich import RichDevice
from qedge_device.short import ShortSealer
from tests.unit.devices.device_site import Site, World, site

FILE = Path(__file__).with_name("device-sessions.json")


class Recorder:
    """Random bytes that are remembered in order."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self.drawn: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        """Draw."""
        made = self._source.randbytes(size)
        self.drawn.append(made)
        return made


def _keys(prk: bytes, digest: bytes, iv_bytes: int) -> dict[str, str]:
    made: dict[str, str] = {"prk": prk.hex(), "transcript": digest.hex()}
    for direction in ("up", "down"):
        keys = schedule.direction_keys(prk, digest, direction, iv_bytes)
        made[f"{direction}_key"], made[f"{direction}_iv"] = keys.key.hex(), keys.iv.hex()
    return made


async def _said(here: Site, device: RichDevice) -> list[bytes]:
    here.clock.advance_s(1)
    said, message = [], device.hello()
    who = device.username
    while message is not None:
        said.append(message)
        said.append(await here.devices.greeter.greet(who, message))
        message = device.receive(said[-1], here.now_s())
    return said


async def make() -> dict[str, Any]:
    """Let a rich and a constrained device live through everything, and write it down."""
    draws = Recorder(11)
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder), world=World(seed=5)) as here:
            device = RichDevice((await here.invited("meter-2")).kept, draws)
            token = device.kept.token
            guest = device.username
            enrolment = await _said(here, device)
            ephemeral = draws.drawn[0]
            first_secret = device.kept.secret
            begun = len(draws.drawn)
            full = await _said(here, device)
            prove = Prove.read(full[2])
            session_seed, half = draws.drawn[begun + 1], draws.drawn[begun + 2]
            resumption = device.kept.resumption
            password = schedule.connect_password(first_secret, schedule.who("lab", "box-1", "meter-2"), "client-7", 3)
            full_frame = device.seal("temperature", b"21.5", here.now_s())
            resumed = await _said(here, device)
            resumed_frame = device.seal("temperature", b"21.5", here.now_s())
            kem_seed = here.devices.authority.newest.seed
            tag = await here.constrained()
            hello = tag.hello()
            welcome = await here.devices.greeter.greet("tag-1", hello)
            tag.receive(welcome)
            tag_frames = [tag.seal("temperature", b"21.5"), tag.seal("temperature", b"21.6")]
    name, tag_name = schedule.who("lab", "box-1", "meter-2"), schedule.who("lab", "box-1", "tag-1")
    kem = XWingKey(kem_seed)
    device_half = kem.open(prove.sealed, agreement.prove_info(name, prove))
    assert device_half == half
    opened = Opened.read(full[3])
    node_half = XWingKey(session_seed).open(opened.sealed, agreement.open_info(name, hashlib.sha256(full[2]).digest()))
    full_prk = schedule.extract(half + node_half)
    full_digest = schedule.transcript(name, full[2], opened.body())
    back = Resumed.read(resumed[1])
    resumed_prk = schedule.extract(resumption)
    resumed_digest = schedule.transcript(name, resumed[0], back.body())
    joined = Joined.read(welcome)
    root = tag._root
    join_prk = schedule.extract(root)
    join_digest = schedule.transcript(tag_name, hello, joined.body())
    up = schedule.short_up(join_prk, join_digest)
    long_sealer = ShortSealer(up.key, up.iv, joined.epoch)
    long_sealer._counter = 2**14
    return {
        "format": "qedge device sessions 1",
        "note": "All values in hex unless said otherwise. Layout of messages: qedge_device/messages.py, enrolling.py.",
        "names": {"fleet": "lab", "node": "box-1", "device": "meter-2", "guest": guest, "who": name.hex()},
        "device_key": {"algorithm": "ml-dsa-44", "seed": device.kept.seed.hex(), "public_key": device.public_key.hex()},
        "node": {
            "identity_algorithm": f"ml-dsa-{device.kept.node_parameter}",
            "identity_public_key": device.kept.node_key.hex(),
            "pin": device.kept.pin.hex(),
            "kem_seed": kem_seed.hex(),
            "kem_statement": device.kept.kem.hex(),
            "kem_public_key": KemStatement.read(device.kept.kem).public_key.hex(),
        },
        "enrolment": {
            "token": token.hex(),
            "ephemeral_seed": ephemeral.hex(),
            "enrol": enrolment[0].hex(),
            "enrolled": enrolment[1].hex(),
            "secret": first_secret.hex(),
        },
        "connect": {"client_id": "client-7", "counter": 3, "password": password},
        "full_session": {
            "ask": full[0].hex(),
            "challenge": full[1].hex(),
            "prove": full[2].hex(),
            "opened": full[3].hex(),
            "ephemeral_seed": session_seed.hex(),
            "device_half": half.hex(),
            "node_half": node_half.hex(),
            **_keys(full_prk, full_digest, 12),
            "resumption": resumption.hex(),
            "first_frame": full_frame.hex(),
        },
        "resumed_session": {
            "resume": resumed[0].hex(),
            "resumed": resumed[1].hex(),
            **_keys(resumed_prk, resumed_digest, 12),
            "first_frame": resumed_frame.hex(),
        },
        "short_session": {
            "device": "tag-1",
            "root": root.hex(),
            "join": hello.hex(),
            "joined": welcome.hex(),
            "epoch": joined.epoch,
            **_keys(join_prk, join_digest, 13),
            "frames": [frame.hex() for frame in tag_frames],
            "frame_16384": long_sealer.seal(b"\x0btemperature21.5", tag.up_topic).hex(),
        },
        "reading": {"channel": "temperature", "body": b"21.5".hex(), "inside": b"\x0btemperature21.5".hex()},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(asyncio.run(make()), indent=1) + "\n", "ascii")
