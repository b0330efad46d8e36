"""`python -m tests.fuzz.devices [SECONDS]`: a coverage-guided run of what a device can send (needs `atheris`).

Each input is a stream that is given to a connection of the listener in pieces: a CONNECT, which lets a device in, and
what follows it. Whatever it says, nothing raises, what is kept of it has a bound, and no reading of the device comes
out that was not sealed by it. Executions and covered edges are printed at the end.
"""

from __future__ import annotations

from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qedge.devices", "qedge.wire.attached", "qedge_device"]):
    from qedge.devices.ways_in import codec, dialogue, hearing, properties  # noqa: F401 - to be instrumented
    from qedge.devices.ways_in.broker_stream import BrokerStream

import mqtt5

from qedge.devices.ways_in.model import PacketError
from qedge.devices.ways_in.rates import Throttles
from tests.fuzz.course import run
from tests.unit.devices.ways_in.clients import mqtt5_connect, paho_connect, paho_publish, paho_subscribe
from tests.unit.devices.ways_in.dialogue_site import DialogueSite

CONNECTS = (b"", paho_connect("c", "d", "of d"), mqtt5_connect("c", "d", b"of d"))
MAX_KEPT_BYTES = 16 * 1024 + 8


def check(data: bytes) -> None:
    """Give one input to a fresh connection, and to the stream of a broker."""
    if len(data) < 2:
        return
    site = DialogueSite()
    if start := CONNECTS[data[0] % len(CONNECTS)]:
        site.take(start)
    step = data[1] or len(data)
    for at in range(2, len(data), step):
        site.take(data[at : at + step])
        if site.outlet.closed:
            break
    kept = site.dialogue._rest
    if kept is not None and len(kept) > MAX_KEPT_BYTES:
        raise AssertionError(f"{len(kept)} bytes are kept")
    if site.bodies:
        raise AssertionError("a reading came out of nothing")
    site.dialogue.lost(site.now_ns, 0)
    check_broker(site, data[2:])


def check_broker(site: DialogueSite, data: bytes) -> None:
    """Give the same to the intake, as if a broker had said it."""
    stream = BrokerStream(
        "f",
        "n",
        site.enforcement,
        Throttles(1000),
        max_packet_bytes=4096,
        write=lambda _: True,
        hello=lambda _device, _message: True,
        other=lambda _packet: None,
        between=lambda: None,
        keeper=None,
    )
    try:
        stream.take(data, site.now_ns, 0)
    except PacketError:
        return
    if site.bodies:
        raise AssertionError("a reading came out of nothing")


def seeds(folder: Path) -> None:
    """Write what to begin with: sound packets of other programs."""
    site = DialogueSite()
    device = site.device
    packets = [
        *CONNECTS[1:],
        paho_connect("c", "d", "of d", will=(device.up_topic, b"x" * 40)),
        mqtt5_connect("c", "d", b"of d", user_properties=[("a", "b")], keep_alive=3, receive_max=4),
        paho_publish(device.up_topic, b"\x01" + b"x" * 40, 1, 5),
        paho_publish(device.hello_topic, b"hi", 0, 0),
        paho_subscribe([(device.down_topic, 1), ("#", 0), ("$share/a/b", 2)]),
        mqtt5.PublishPacket(device.up_topic, b"x" * 50, content_type="t", user_properties=[("a", "b")]).write(),
        mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(device.down_topic)], user_properties=[("a", "b")]).write(),
        mqtt5.UnsubscribePacket(2, [device.down_topic]).write(),
        mqtt5.PubAckPacket(1, reason_str="x").write(),
        mqtt5.DisconnectPacket(reason_str="bye").write(),
        mqtt5.PingReqPacket().write(),
        mqtt5.AuthPacket().write(),
    ]
    for number, packet in enumerate(packets):
        for kind in range(len(CONNECTS)):
            for step in (0, 1, 7):
                (folder / f"{number}-{kind}-{step}").write_bytes(bytes([kind, step]) + packet)


if __name__ == "__main__":
    run(check, seeds, most_bytes=2048)
