"""The bus against a broker that does what the test tells it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.inbox import MAX_WAITING_BYTES
from qedge.bus.model import MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, Incoming, LastWill
from qedge.bus.service import Bus
from tests.unit.bus.scripted_broker import (
    CONNECT,
    DISCONNECT,
    MAXIMUM_PACKET_SIZE,
    PUBACK,
    PUBLISH,
    RECEIVE_MAXIMUM,
    SUBSCRIBE,
    ScriptedBroker,
    packet,
    publish,
)

INBOX = "qedge/v1/f/n/ping"
REPLY = "qedge/v1/f/n/reply"


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as scripted:
        yield scripted


def make_bus(broker: ScriptedBroker, metrics: Metrics | None = None, **settings: object) -> Bus:
    """Make a bus that connects to the scripted broker."""
    config = BusConfig(url=f"mqtt://127.0.0.1:{broker.port}", **settings)  # type: ignore[arg-type]
    endpoint = external_endpoint(config)
    numbers = itertools.count()
    return Bus(
        config,
        lambda: endpoint,
        client_id="node",
        reply_topic=REPLY,
        clock=SystemClock(),
        metrics=metrics or Metrics(),
        random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
        uniform=lambda: 0.5,
    )


@asynccontextmanager
async def running(bus: Bus, *, connected: bool = True) -> AsyncIterator[asyncio.Event]:
    """Run a bus; gives the event that its readiness sets."""
    ready = asyncio.Event()
    task = asyncio.create_task(bus.run(ready.set))
    try:
        if connected:
            await until(lambda: bus.connected)
        yield ready
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_asks_for_a_session_that_outlives_the_connection(broker: ScriptedBroker) -> None:
    async with running(make_bus(broker, session_expiry_s=4711, receive_maximum=7)):
        (connect,) = await broker.wait_for(CONNECT)
    clean_start = connect[7] & 0x02
    assert connect[:7] == b"\0\4MQTT\5"
    assert not clean_start
    assert b"\x11" + struct.pack(">I", 4711) in connect
    assert b"\x21" + struct.pack(">H", 7) in connect
    assert b"\x27" + struct.pack(">I", MAX_PACKET_BYTES) in connect


async def test_a_clean_stop_says_goodbye_so_that_no_will_is_published(broker: ScriptedBroker) -> None:
    bus = make_bus(broker)
    bus.set_will(lambda: LastWill("qedge/v1/f/n/birth", b"lost", 3))
    async with running(bus):
        (connect,) = await broker.wait_for(CONNECT)
        assert b"qedge/v1/f/n/birth\0\4lost" in connect
    await broker.wait_for(DISCONNECT)


async def test_small_packets_are_neither_held_back_nor_acknowledged_late(broker: ScriptedBroker) -> None:
    # Two small packets in a row stall for 40 ms where one side waits for the other's delayed acknowledgement.
    bus = make_bus(broker)
    handled: list[Incoming] = []

    async def handle(message: Incoming) -> None:
        handled.append(message)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        raw = broker.socket
        ours = bus._client._client.socket()  # type: ignore[union-attr] # the option is set on a socket of the library
        assert isinstance(ours, socket.socket)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        if sys.platform != "linux":
            return
        for number in range(1, 20):  # a conversation makes the kernel delay its acknowledgements
            broker.send(publish(INBOX, b"x", mid=number))
            await broker.wait_for(PUBACK, number)
            broker.send(publish(INBOX, b"unanswered"))
            await until(lambda number=number: len(handled) == 2 * number)
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)  # type: ignore[attr-defined]
            (unacknowledged,) = struct.unpack_from("I", info, 24)  # tcpi_unacked of tcp(7)
            assert unacknowledged == 0


async def test_a_message_is_acknowledged_only_after_its_handler_returned(broker: ScriptedBroker) -> None:
    bus, gate = make_bus(broker), asyncio.Event()
    begun = asyncio.Event()

    async def handle(_message: Incoming) -> None:
        begun.set()
        await gate.wait()

    bus.subscribe(INBOX, handle)
    async with running(bus):
        broker.send(publish(INBOX, b"first", mid=1) + publish(INBOX, b"second", mid=2))
        await begun.wait()
        assert broker.bodies(PUBACK) == []
        gate.set()
        acknowledged = await broker.wait_for(PUBACK, 2)
    assert [body[:2] for body in acknowledged] == [b"\0\1", b"\0\2"]


async def test_messages_are_acknowledged_in_the_order_in_which_they_came(broker: ScriptedBroker) -> None:
    bus, gate = make_bus(broker), asyncio.Event()

    async def handle(_message: Incoming) -> None:
        await gate.wait()

    bus.subscribe(INBOX, handle)
    async with running(bus):
        broker.send(publish(INBOX, b"waits", mid=1))
        broker.send(publish(REPLY, b"answers nothing", mid=2))
        broker.send(publish(INBOX, bytes(MAX_MESSAGE_BYTES + 1), mid=3))
        broker.send(publish("qedge/v1/f/n/unheard", b"", mid=4))
        await asyncio.sleep(0.05)
        assert broker.bodies(PUBACK) == []
        gate.set()
        acknowledged = await broker.wait_for(PUBACK, 4)
    assert [body[1] for body in acknowledged] == [1, 2, 3, 4]


async def test_poison_is_counted_and_acknowledged_and_the_next_message_handled(broker: ScriptedBroker) -> None:
    metrics = Metrics()
    bus, good = make_bus(broker, metrics), []

    async def handle(message: Incoming) -> None:
        if message.payload == b"poison":
            raise ZeroDivisionError
        if message.payload == b"nonsense":
            raise QedgeError("bus.bad_message", "Nonsense.")
        good.append(message.payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        for mid, payload in enumerate([b"poison", b"nonsense", b"good"], 1):
            broker.send(publish(INBOX, payload, mid=mid))
        await broker.wait_for(PUBACK, 3)
    assert good == [b"good"]
    assert metrics.value("qedge_bus_rejected_total", ("handler_failed",)) == 1
    assert metrics.value("qedge_bus_rejected_total", ("bus.bad_message",)) == 1


async def test_a_message_over_the_limit_never_reaches_a_handler(broker: ScriptedBroker) -> None:
    metrics = Metrics()
    bus, got = make_bus(broker, metrics), []

    async def handle(message: Incoming) -> None:
        got.append(len(message.payload))

    bus.subscribe(INBOX, handle)
    async with running(bus):
        broker.send(publish(INBOX, bytes(MAX_MESSAGE_BYTES + 1), mid=1))
        broker.send(publish(INBOX, bytes(MAX_MESSAGE_BYTES), mid=2))
        await broker.wait_for(PUBACK, 2)
    assert got == [MAX_MESSAGE_BYTES]
    assert metrics.value("qedge_bus_rejected_total", ("bus.too_large",)) == 1


async def test_a_broker_that_sends_more_than_agreed_is_left_before_it_fills_the_memory(broker: ScriptedBroker) -> None:
    bus = make_bus(broker)
    async with running(bus):
        broker.send(publish(INBOX, bytes(64 * 1024 * 1024), mid=1)[: 1024 * 1024])
        await until(lambda: broker.connections == 2 and bus.connected)


async def test_qos_0_messages_that_find_the_queue_full_are_dropped_and_counted_but_qos_1_never(
    broker: ScriptedBroker,
) -> None:
    metrics, gate = Metrics(), asyncio.Event()
    bus, got = make_bus(broker, metrics, queue_limit=10), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append((message.qos, message.payload))

    bus.subscribe(INBOX, handle)
    async with running(bus):
        for number in range(50):
            broker.send(publish(INBOX, b"%d" % number))
        for number in range(9):
            broker.send(publish(INBOX, b"%d" % number, mid=number + 1))
        await until(lambda: metrics.value("qedge_bus_messages_total", ("in",)) == 59)
        gate.set()
        await broker.wait_for(PUBACK, 9)
    assert [payload for qos, payload in got if qos] == [b"%d" % number for number in range(9)]
    dropped = metrics.value("qedge_bus_rejected_total", ("queue_full",))
    assert dropped == 50 - (len(got) - 9)
    assert dropped >= 39


async def test_a_full_queue_leaves_reliable_messages_with_the_broker_until_there_is_room(
    broker: ScriptedBroker,
) -> None:
    metrics, gate = Metrics(), asyncio.Event()
    bus, got = make_bus(broker, metrics, queue_limit=10), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append(message.payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        for number in range(500):
            broker.send(publish(INBOX, b"%d" % number, mid=number + 1))
        await until(lambda: metrics.value("qedge_bus_messages_total", ("in",)) == 11)
        await asyncio.sleep(0.05)
        assert metrics.value("qedge_bus_messages_total", ("in",)) == 11
        gate.set()
        await broker.wait_for(PUBACK, 500)
    assert got == [b"%d" % number for number in range(500)]


async def test_a_few_large_messages_fill_the_queue_as_many_small_ones_do(broker: ScriptedBroker) -> None:
    metrics, gate = Metrics(), asyncio.Event()
    bus, got = make_bus(broker, metrics), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append(len(message.payload))

    bus.subscribe(INBOX, handle)
    number = 3 * MAX_WAITING_BYTES // MAX_MESSAGE_BYTES
    async with running(bus):
        for mid in range(1, number + 1):
            broker.send(publish(INBOX, bytes(MAX_MESSAGE_BYTES), mid=mid))
        fitting = MAX_WAITING_BYTES // MAX_MESSAGE_BYTES + 1
        await until(lambda: metrics.value("qedge_bus_messages_total", ("in",)) == fitting)
        gate.set()
        await broker.wait_for(PUBACK, number)
    assert got == [MAX_MESSAGE_BYTES] * number


async def test_a_handler_that_waits_for_the_broker_is_not_stuck_before_a_full_queue(broker: ScriptedBroker) -> None:
    # The acknowledgement that the handler waits for comes behind messages for which the queue has no room.
    broker.puback_code = None
    bus, handled = make_bus(broker, queue_limit=20), []

    async def handle(message: Incoming) -> None:
        if not handled:
            await bus.publish("qedge/v1/f/peer/ping", b"", qos=1, deadline_s=8)
        handled.append(message.payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        broker.send(publish(INBOX, b"0", mid=1))
        (sent,) = await broker.wait_for(PUBLISH)
        for number in range(1, 40):
            broker.send(publish(INBOX, b"%d" % number, mid=number + 1))
        offset = 2 + len("qedge/v1/f/peer/ping")
        broker.send(packet(PUBACK, sent[offset : offset + 2]))
        await broker.wait_for(PUBACK, 40)
    assert handled == [b"%d" % number for number in range(40)]


async def test_publishing_waits_for_the_acknowledgement(broker: ScriptedBroker) -> None:
    broker.puback_code = None
    async with running(bus := make_bus(broker)):
        with pytest.raises(QedgeError) as error:
            await bus.publish(INBOX, b"", qos=1, deadline_s=0.05)
        assert error.value.code == "bus.timeout"
        sending = asyncio.create_task(bus.publish(INBOX, b"", qos=1, deadline_s=60))
        await broker.wait_for(PUBLISH, 2)
        broker.hang_up()
        with pytest.raises(QedgeError) as error:
            await sending  # at once, not after a minute
        assert error.value.code == "bus.unavailable"


async def test_a_refused_publication_is_an_error(broker: ScriptedBroker) -> None:
    broker.puback_code = 0x87
    async with running(bus := make_bus(broker)):
        with pytest.raises(QedgeError, match="0x87"):
            await bus.publish(INBOX, b"", qos=1)


async def test_the_brokers_packet_limit_is_obeyed(broker: ScriptedBroker) -> None:
    broker.connack = (0, 0, bytes([MAXIMUM_PACKET_SIZE]) + struct.pack(">I", 4096))
    async with running(bus := make_bus(broker)):
        with pytest.raises(QedgeError) as error:
            await bus.publish(INBOX, bytes(4000), qos=1)
        assert error.value.code == "bus.too_large"
        await bus.publish(INBOX, bytes(3000), qos=1)
    assert len(broker.bodies(PUBLISH)) == 1


async def test_the_brokers_receive_maximum_is_obeyed(broker: ScriptedBroker) -> None:
    broker.connack = (0, 0, bytes([RECEIVE_MAXIMUM]) + struct.pack(">H", 3))
    broker.puback_code = None
    async with running(bus := make_bus(broker)):
        sending = [asyncio.create_task(bus.publish(INBOX, b"", qos=1)) for _ in range(10)]
        await broker.wait_for(PUBLISH, 3)
        await asyncio.sleep(0.05)
        assert len(broker.bodies(PUBLISH)) == 3
        sent = 0
        while sent < 10:
            for body in broker.bodies(PUBLISH)[sent:]:
                broker.send(packet(PUBACK, body[2 + len(INBOX) : 4 + len(INBOX)]))
                sent += 1
            await asyncio.sleep(0)
        await asyncio.gather(*sending)


async def test_a_session_that_was_taken_over_is_an_error_and_not_fought_for(broker: ScriptedBroker) -> None:
    async with running(bus := make_bus(broker)):
        broker.send(packet(DISCONNECT, bytes([0x8E, 0])))
        await until(lambda: not bus.connected)
        await asyncio.sleep(0.5)  # many times the usual first pause
        assert broker.connections == 1
        assert "took over" in bus.view().error


async def test_a_name_that_two_boxes_share_is_an_error_too_where_the_broker_does_not_tell(
    broker: ScriptedBroker,
) -> None:
    async with running(bus := make_bus(broker)):
        broker.connack = (1, 0, b"")  # the session that was begun is still there each time
        for number in range(1, 6):
            await until(lambda number=number: broker.connections == number and bus.connected)
            broker.hang_up()
            await until(lambda: not bus.connected)
        await until(lambda: "same name" in bus.view().error)
        assert broker.connections == 5


async def test_a_broker_that_dies_again_and_again_and_forgets_all_is_not_taken_for_another_box(
    broker: ScriptedBroker,
) -> None:
    async with running(bus := make_bus(broker)):
        for number in range(1, 8):
            await until(lambda number=number: broker.connections == number and bus.connected)
            broker.hang_up()
            await until(lambda: not bus.connected)
        await until(lambda: bus.connected)


async def test_a_broker_that_hangs_up_without_an_answer_is_tried_again_at_once(broker: ScriptedBroker) -> None:
    # rumqttd does so where the password is wrong; waiting for the time limit would hide it.
    broker.hang_up_on_connect = True
    async with running(bus := make_bus(broker, connect_timeout_s=100), connected=False) as ready:
        async with asyncio.timeout(20):
            await ready.wait()
        assert "closed the connection" in bus.view().error
        broker.hang_up_on_connect = False
        await until(lambda: bus.connected)


async def test_refused_credentials_are_told(broker: ScriptedBroker) -> None:
    broker.connack = (0, 0x86, b"")
    async with running(bus := make_bus(broker), connected=False) as ready:
        await ready.wait()
        assert "user name or password" in bus.view().error
        with pytest.raises(QedgeError, match="not connected"):
            await bus.publish(INBOX, b"", qos=1)


async def test_a_refused_subscription_is_no_connection(broker: ScriptedBroker) -> None:
    broker.suback_code = 0x87
    async with running(bus := make_bus(broker), connected=False) as ready:
        await ready.wait()
        assert not bus.connected
        assert "refuses the subscription" in bus.view().error


async def test_hooks_learn_after_each_connection_whether_the_session_was_kept(broker: ScriptedBroker) -> None:
    bus, kept = make_bus(broker), []

    async def fails(_present: bool) -> None:
        raise QedgeError("bus.timeout", "Not my day.")

    async def note(present: bool) -> None:
        kept.append(present)

    bus.on_session(fails)
    bus.on_session(note)
    async with running(bus):
        await until(lambda: kept == [False])
        broker.connack = (1, 0, b"")
        broker.hang_up()
        await until(lambda: kept == [False, True])
        assert bus.view().session_present
        assert bus.view().reconnects == 1


async def test_what_waits_is_handled_although_the_broker_lost_the_session(broker: ScriptedBroker) -> None:
    bus, gate, got = make_bus(broker), asyncio.Event(), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append(message.payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        for number in range(1, 11):
            broker.send(publish(INBOX, b"%d" % number, mid=number))
        await until(lambda: len(bus._inbox._waiting) == 9)
        broker.hang_up()
        await until(lambda: broker.connections == 2 and bus.connected)
        gate.set()
        await until(lambda: len(got) == 10)
    assert got == [b"%d" % number for number in range(1, 11)]


async def test_what_a_kept_session_sends_again_is_not_handled_twice(broker: ScriptedBroker) -> None:
    bus, gate, got = make_bus(broker), asyncio.Event(), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append(message.payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        for number in range(1, 5):
            broker.send(publish(INBOX, b"%d" % number, mid=number))
        await until(lambda: len(bus._inbox._waiting) == 3)
        broker.connack = (1, 0, b"")
        broker.hang_up()
        await until(lambda: broker.connections == 2 and bus.connected)
        for number in range(1, 5):
            broker.send(publish(INBOX, b"%d" % number, mid=number))
        await until(lambda: len(bus._inbox._waiting) == 4)
        gate.set()
        await broker.wait_for(PUBACK, 4)
    assert got == [b"1", b"1", b"2", b"3", b"4"]  # only the one whose handler ran came twice


async def test_a_pattern_of_a_late_subscriber_is_asked_for_on_the_open_connection(broker: ScriptedBroker) -> None:
    bus, got = make_bus(broker), asyncio.Event()

    async def handle(_message: Incoming) -> None:
        got.set()

    async with running(bus):
        bus.subscribe("qedge/v1/f/+/late", handle)
        subscriptions = await broker.wait_for(SUBSCRIBE, 2)
        assert b"qedge/v1/f/+/late" in subscriptions[1]
        broker.send(publish("qedge/v1/f/peer/late", b""))
        await got.wait()


async def test_what_the_broker_keeps_can_be_read_again_on_the_open_connection(broker: ScriptedBroker) -> None:
    bus = make_bus(broker)

    async def handle(_message: Incoming) -> None:
        return

    bus.subscribe("qedge/v1/f/n/cmd/+", handle)
    async with running(bus):
        first = await broker.wait_for(SUBSCRIBE, 1)
        bus.read_again("qedge/v1/f/n/cmd/+")
        again = (await broker.wait_for(SUBSCRIBE, 2))[1]
    # retain handling (MQTT 5 §3.8.3.1, bits 4 and 5): 1 sends what is kept to a new subscription alone, 0 to any
    assert first[0][first[0].index(b"cmd/+") + 5] >> 4 == 1
    assert again[again.index(b"cmd/+") + 5] >> 4 == 0


async def test_what_a_node_says_itself_is_not_sent_back_where_nobody_wants_it(broker: ScriptedBroker) -> None:
    bus = make_bus(broker)

    async def handle(_message: Incoming) -> None:
        return

    bus.subscribe("qedge/v1/f/+/state", handle, own=False)
    bus.subscribe("qedge/v1/f/+/pulse", handle)
    bus.subscribe("qedge/v1/f/+/birth", handle, own=False)
    bus.subscribe("qedge/v1/f/+/birth", handle)
    async with running(bus):
        (asked,) = await broker.wait_for(SUBSCRIBE)
    # no local (MQTT 5 §3.8.3.1, bit 2)
    assert [asked[asked.index(name) + len(name)] >> 2 & 1 for name in (b"+/state", b"+/pulse", b"+/birth")] == [1, 0, 0]


async def test_an_answer_does_not_wait_behind_a_handler_that_asks(broker: ScriptedBroker) -> None:
    bus, answers = make_bus(broker), []

    async def handle(_message: Incoming) -> None:
        answers.append((await bus.request("qedge/v1/f/peer/ping", b"?", deadline_s=5)).payload)

    bus.subscribe(INBOX, handle)
    async with running(bus):
        broker.send(publish(INBOX, b"", mid=1))
        (question,) = await broker.wait_for(PUBLISH)
        correlation = b"\x09\0\x10" + bytes(16)
        assert correlation in question
        body = len(REPLY).to_bytes(2, "big") + REPLY.encode() + b"\0\2" + bytes([len(correlation)]) + correlation
        broker.send(packet(PUBLISH, body + b"!", 2))
        await until(lambda: answers)
    assert answers == [b"!"]


@pytest.mark.parametrize("back", ["", "qedge/v1/f/n/birth", "qedge/v1/other/n/reply", "$SYS/x", "qedge/v1/f/+/reply"])
async def test_an_answer_goes_to_reply_topics_of_the_fleet_only(broker: ScriptedBroker, back: str) -> None:
    bus = make_bus(broker)
    async with running(bus):
        with pytest.raises(QedgeError, match="not for answers"):
            bus.respond(Incoming(INBOX, b"", 1, False, response_topic=back), b"")
    assert broker.bodies(PUBLISH) == []


async def test_the_pump_shows_progress_while_no_broker_is_there() -> None:
    clock = SystemClock()
    bus = Bus(
        BusConfig(),
        lambda: None,
        client_id="node",
        reply_topic=REPLY,
        clock=clock,
        metrics=Metrics(),
        random_bytes=bytes,
        uniform=lambda: 0.5,
    )
    async with running(bus, connected=False):
        before_ns = bus.progress_ns
        await until(lambda: bus.progress_ns > before_ns)
        assert bus.view().kind == "starting"


async def test_stopping_does_not_wait_for_a_broker_that_never_answers(broker: ScriptedBroker) -> None:
    broker.connack = None
    bus = make_bus(broker, connect_timeout_s=100)
    async with running(bus, connected=False):
        await broker.wait_for(CONNECT)
    assert not bus.connected
