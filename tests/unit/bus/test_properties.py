"""Properties of publications: byte for byte what paho writes and reads."""

from __future__ import annotations

import pytest
from paho.mqtt import _packet
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MQTTException, Properties

from qedge.bus.mqtt_client import posted_properties, publish_properties
from qedge.bus.properties import SharedProperties


def theirs(**values: object) -> Properties:
    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho has no types
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"MessageExpiryInterval": 60},
        {"MessageExpiryInterval": 1, "PayloadFormatIndicator": 1},
        {"ResponseTopic": "a/b", "CorrelationData": b"0123456789abcdef"},
        {"UserProperty": [("a", "b"), ("a", "c")]},
    ],
)
def test_what_arrives_is_read_as_paho_reads_it(values: dict[str, object]) -> None:
    packed = bytes(theirs(**values).pack())  # type: ignore[no-untyped-call] # paho has no types
    for _ in range(2):
        read = SharedProperties(PacketTypes.PUBLISH)
        assert read.unpack(packed + b"payload") == (read, len(packed))
        assert read.json() == theirs(**values).json()  # type: ignore[no-untyped-call] # paho has no types


def test_what_is_published_is_written_as_paho_writes_it() -> None:
    assert posted_properties(60).pack() == theirs(MessageExpiryInterval=60).pack()  # type: ignore[no-untyped-call] # paho has no types
    assert posted_properties(60).pack() is posted_properties(60).pack()  # type: ignore[no-untyped-call] # paho has no types
    answered = publish_properties(expiry_s=3, response_topic="a/b", correlation=b"1234")
    wanted = theirs(MessageExpiryInterval=3, ResponseTopic="a/b", CorrelationData=b"1234")
    assert answered.pack() == wanted.pack()  # type: ignore[no-untyped-call] # paho has no types


@pytest.mark.parametrize("packed", [b"\x05\x02\x00", b"\x02\x7f\x00", b"\x05\x11\x00\x00\x00\x01"])
def test_properties_that_are_none_are_refused_as_paho_refuses_them(packed: bytes) -> None:
    kinds = []
    for made in (SharedProperties(PacketTypes.PUBLISH), theirs()):
        with pytest.raises((MQTTException, *_packet.DECODE_ERRORS)) as error:
            made.unpack(packed)  # type: ignore[no-untyped-call] # paho has no types
        kinds.append(error.type)
    assert kinds[0] is kinds[1]
