"""Properties of `qedge.wire.envelope`: reading undoes writing, and any bytes are an envelope or a refusal."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.wire.envelope import Header, decode, encode, purpose_of
from qedge.wire.mesh import Birth, Ping
from qedge.wire.topics import Channel, topic

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True)
TIMES = st.integers(0, 2**63 - 1)
TOPICS = st.builds(topic, NAMES, NAMES, st.sampled_from(Channel))
HEADERS = st.builds(
    Header,
    topic=TOPICS,
    sender=NAMES,
    sequence=TIMES,
    purpose=st.just(purpose_of(Ping)),
    utc_ns=TIMES,
    expires_utc_ns=st.just(0),
)
PINGS = st.builds(Ping, st.binary(max_size=64))


@given(HEADERS, PINGS, TIMES)
def test_reading_undoes_writing(header: Header, ping: Ping, utc_ns: int) -> None:
    assert decode(encode(header, ping), header.topic, Ping, utc_ns) == (header, ping)


@given(HEADERS, PINGS, TIMES, TIMES)
def test_a_message_is_read_exactly_until_it_expires(header: Header, ping: Ping, expires: int, utc_ns: int) -> None:
    limited = Header(header.topic, header.sender, header.sequence, header.purpose, header.utc_ns, expires)
    try:
        decode(encode(limited, ping), header.topic, Ping, utc_ns)
        assert expires == 0 or utc_ns < expires
    except QedgeError:
        assert 0 < expires <= utc_ns


@given(st.binary(max_size=2000))
@example(b"")
@example(b"QE\1\0\0\0\0\0\0\0")
@example(b"QE\1\0\xff\xff\xff\xff\xff\xff")
def test_any_bytes_are_an_envelope_or_a_refusal(data: bytes) -> None:
    for body in (Ping, Birth):
        try:
            decode(data, "qedge/v1/f/n/ping", body, 0)
        except QedgeError as error:
            assert error.code == "bus.bad_message"


@given(HEADERS, PINGS, st.data())
def test_a_damaged_envelope_is_an_envelope_or_a_refusal(header: Header, ping: Ping, data: st.DataObject) -> None:
    message = bytearray(encode(header, ping))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    try:
        decode(bytes(message[:cut]), header.topic, Ping, 0)
    except QedgeError as error:
        assert error.code == "bus.bad_message"
