"""The smaller parts of the Sparkplug edge node: counters, packets, pace, recorder, topics, metrics of the node."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.backoff import Backoff
from qedge.base.errors import QedgeError
from qedge.base.settings import check
from qedge.fleet.sparkplug.bd_seq import BdSeqFile
from qedge.fleet.sparkplug.births import MAX_BORN, MAX_TEXT_BYTES, Births, admissible
from qedge.fleet.sparkplug.certificates import birth
from qedge.fleet.sparkplug.config import SparkplugConfig
from qedge.fleet.sparkplug.model import DataType, Reading, Snapshot, Verb, Will
from qedge.fleet.sparkplug.node_metrics import DEVICE_METRICS, DRAIN, LOCKED, NODE_METRICS, snapshot_of
from qedge.fleet.sparkplug.pace import Pace
from qedge.fleet.sparkplug.packets import (
    MAX_PACKET_BYTES,
    PacketReader,
    connect_packet,
    publish_packet,
    subscribe_packet,
)
from qedge.fleet.sparkplug.recorder import Recorder
from qedge.fleet.sparkplug.servers import read_servers
from qedge.fleet.sparkplug.topics import Topics, is_id, state_topic
from qedge.fleet.sparkplug.walk import Walk
from qedge.wire.node import (
    BusView,
    DriverView,
    EntropyView,
    GatewayView,
    HostView,
    LinkView,
    NodeStatus,
    WorkerView,
)

S = 1_000_000_000

# bdSeq


def test_bd_seq_goes_on_after_a_restart_and_wraps(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bdseq"
    taken: list[int] = []
    for _ in range(3):
        file = BdSeqFile(path, "g/n")
        taken += [file.take() for _ in range(86)]
    assert taken == [number % 256 for number in range(258)]


def test_bd_seq_survives_a_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "bdseq"
    file = BdSeqFile(path, "g/n")
    for _ in range(5):
        file.take()
    for slot in (0, 4096):
        whole = path.read_bytes()
        torn = bytearray(whole)
        torn[slot + 5] ^= 0xFF
        path.write_bytes(torn)
        assert BdSeqFile(path, "g/n").take() in (4, 5)  # the older record is one behind
        path.write_bytes(whole)


def test_bd_seq_of_another_descriptor_begins_at_0(tmp_path: Path) -> None:
    for _ in range(3):
        BdSeqFile(tmp_path / "bdseq", "g/n").take()
    assert BdSeqFile(tmp_path / "bdseq", "g/other").take() == 0


def test_bd_seq_needs_no_room_after_its_first_number(tmp_path: Path) -> None:
    path = tmp_path / "bdseq"
    BdSeqFile(path, "g/n").take()
    before = path.stat()
    for _ in range(20):
        BdSeqFile(path, "g/n").take()
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    assert os.listdir(tmp_path) == ["bdseq"]


def test_bd_seq_is_never_given_out_twice_through_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from qedge.fleet.sparkplug.bd_seq import BdSeqFile\n"
        "file = BdSeqFile(Path(sys.argv[1]), 'g/n')\n"
        "while True: print(file.take(), flush=True)"
    )
    taken: list[int] = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "bdseq")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        taken += [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        rest, _ = process.communicate()
        taken += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    gaps = {(after - before) % 256 for before, after in itertools.pairwise(taken)}
    assert gaps <= {1, 2}  # a number may be lost between the disk and the word, never used again
    assert taken[:20] == list(range(20))


# MQTT


def server_bytes() -> bytes:
    publication = publish_packet("a/b", b"body", mid=7)
    return b"\x20\x02\x00\x05" + b"\x90\x04\x00\x01\x01\x80" + b"\x40\x02\x00\x09" + publication + b"\xd0\x00"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 8), max_size=30))
def test_packets_come_out_whole_however_the_bytes_come(cuts: list[int]) -> None:
    reader, data, found = PacketReader(), server_bytes(), []
    for size in [*cuts, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]
    assert [each.kind for each in found] == ["connack", "suback", "puback", "publish", "pingresp"]
    assert (found[0].code, found[1].codes, found[2].mid) == (5, (1, 0x80), 9)
    assert (found[3].topic, found[3].payload, found[3].mid, found[3].qos) == ("a/b", b"body", 7, 1)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_hostile_packets_raise_one_kind_of_error(data: bytes) -> None:
    try:
        PacketReader().feed(data)
    except QedgeError as error:
        assert error.code == "bus.bad_message"


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30" + bytes([0xFF, 0xFF, 0x7F]),  # more than is taken
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x32\x05\x00\x01a\x00\x00",  # packet id 0
        b"\x30\x03\x00\x09a",  # a topic that goes on after the end
        b"\x30\x03\x00\x01\xff",  # a topic that is no UTF-8
        b"\x20\x01\x00",
        b"\xe0\x00",  # a DISCONNECT of a server
    ],
)
def test_packets_that_no_server_may_send_end_the_connection(data: bytes) -> None:
    with pytest.raises(QedgeError, match="The MQTT server sends"):
        PacketReader().feed(data)
    assert MAX_PACKET_BYTES < 2**20


def test_packets_are_those_of_mqtt_3_1_1() -> None:
    connect = connect_packet("c", 30, Will("w", b"x"), "u", "p")
    assert connect == b"\x10\x19\x00\x04MQTT\x04\xce\x00\x1e\x00\x01c\x00\x01w\x00\x01x\x00\x01u\x00\x01p"
    assert connect_packet("c", 30, Will("w", b"x"), "", "")[9] == 0x0E
    assert subscribe_packet(1, ["a"]) == b"\x82\x06\x00\x01\x00\x01a\x01"
    assert publish_packet("a", b"b") == b"\x30\x04\x00\x01ab"
    assert publish_packet("a", bytes(200))[:3] == b"\x30\xcb\x01"


# Pace, names, recorder


def test_a_burst_then_a_rate() -> None:
    pace, went, now = Pace(10.0, 5), list[int](), 0
    while now <= S:
        if pace.ready_ns(now) <= now:
            pace.take(now)
            went.append(now)
        else:
            now = pace.ready_ns(now)
    assert len([each for each in went if each == 0]) == 5
    assert len(went) == pytest.approx(15, abs=1)


def walk(servers: int) -> Walk:
    return Walk(servers, Backoff(1.0, 60.0), 30.0)


def test_a_host_that_is_offline_everywhere_is_looked_for_at_once_and_then_ever_more_slowly() -> None:
    round_trip = walk(3)
    delays = [round_trip.ended(walk=True, spoke=False, lasted_s=0.1, uniform=1.0) for _ in range(9)]
    assert delays == [0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0]
    assert round_trip.at == 0


def test_a_server_whose_line_broke_is_tried_before_the_next() -> None:
    one = walk(2)
    one.ended(walk=False, spoke=True, lasted_s=100.0, uniform=0.5)
    assert one.at == 0
    one.ended(walk=False, spoke=False, lasted_s=1.0, uniform=0.5)
    assert one.at == 1


def test_short_sessions_make_the_wait_grow_and_a_long_one_ends_that() -> None:
    one = walk(1)
    delays = [one.ended(walk=False, spoke=True, lasted_s=0.1, uniform=1.0) for _ in range(8)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert one.ended(walk=False, spoke=True, lasted_s=31.0, uniform=0.25) == 0.25


def test_topics_have_the_levels_of_the_specification() -> None:
    topics = Topics("g", "n")
    assert topics.of(Verb.NBIRTH) == "spBv1.0/g/NBIRTH/n"
    assert topics.of(Verb.DDATA, "d") == "spBv1.0/g/DDATA/n/d"
    assert topics.commanded("spBv1.0/g/NCMD/n") == ""
    assert topics.commanded("spBv1.0/g/DCMD/n/d") == "d"
    assert topics.commanded("spBv1.0/g/DCMD/n") is None
    assert topics.commanded("spBv1.0/g/DCMD/n/d/e") is None
    assert topics.commanded("spBv1.0/g/NCMD/other") is None
    assert state_topic("h") == "spBv1.0/STATE/h"
    for verb, device in ((Verb.NBIRTH, "d"), (Verb.DBIRTH, "")):
        with pytest.raises(ValueError, match="device"):
            topics.of(verb, device)


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a\x00", "a" * 65])
def test_names_that_topics_cannot_hold(name: str) -> None:
    assert not is_id(name)
    if name:
        assert check(SparkplugConfig, {"group": name})


def test_a_birth_has_limits() -> None:
    many = {f"m{number}": Reading(DataType.INT64, 1, 0) for number in range(MAX_BORN + 50)}
    assert len(admissible(many)) == MAX_BORN
    long = admissible({"a": Reading(DataType.STRING, "é" * 2000, 0), "b" * 300: Reading(DataType.INT64, 1, 0)})
    assert list(long) == ["a"]
    assert len(str(long["a"].value).encode()) == MAX_TEXT_BYTES
    texts = {f"m{number}": Reading(DataType.STRING, "é" * 500, 0) for number in range(500)}
    assert 100 < len(admissible(texts)) < 120
    assert len(birth(admissible(texts), 0, 0, bd_seq=0)) < 128 * 1024


def test_the_recorder_keeps_changes_with_what_was_before_the_first() -> None:
    recorder = Recorder(0.0)

    def look(value: int, at: int) -> list[tuple[object, int]]:
        snapshot = Snapshot({"a": Reading(DataType.INT64, value, at), "still": Reading(DataType.INT64, 1, 1)})
        return [(past.reading.value, past.reading.utc_ms) for past in recorder.changes(snapshot, at)]

    assert look(1, 10) == []
    assert look(1, 20) == []
    assert look(2, 30) == [(1, 10), (2, 30)]
    assert look(3, 40) == [(3, 40)]
    said = Births(0.0)
    said.born("", {"a": Reading(DataType.INT64, 9, 50), "still": Reading(DataType.INT64, 1, 1)})
    recorder.follow(said)
    assert look(9, 60) == []
    assert look(8, 70) == [(8, 70)]


# Settings and metrics of the node


def test_servers_are_read_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    config = SparkplugConfig(
        servers=("mqtt://a", "mqtts://b:9999"), username="u", password_file=str(tmp_path / "password")
    )
    first, second = read_servers(config)
    assert (first.endpoint.host, first.endpoint.port, first.tls, first.endpoint.password) == ("a", 1883, None, "secret")
    assert (second.endpoint.port, second.tls is not None) == (9999, True)
    for bad in ({"servers": ("mqtt://a:99999",)}, {"password_file": "/nowhere"}):
        with pytest.raises(QedgeError, match=r"fleet\.sparkplug"):
            read_servers(msgspec.structs.replace(config, **bad))


STATUS = NodeStatus(
    node="n",
    fleet="f",
    version="1",
    standalone=True,
    boot_id="b",
    uptime_s=1.0,
    utc_ns=1,
    ready=True,
    services=(),
    drivers=(
        DriverView(
            "qpu", "sim_qpu", "qpu", "1", True, "unlocked", "up", workers=(WorkerView("w", "ready", restarts=2),),
            properties={"qubits": 5, "gates": ["x"], "fidelity": 0.99, "ok": True},
        ),
        DriverView("dead", "sim_qpu", "qpu", "1", True, "unlocked", "down"),
        DriverView("kept", "sim_qpu", "qpu", "1", True, "locked", "down"),
    ),
    bus=BusView(True, "", ""),
    entropy=EntropyView("q", True, True),
    host=HostView(cpu_ratio=0.25, memory_available_bytes=2**30),
    links=(LinkView("l", "a", "b", state="quarantined"),),
    gateway=GatewayView(devices=3),
)  # fmt: skip


def test_the_status_of_a_node_becomes_metrics_of_interoperable_types() -> None:
    found = snapshot_of(STATUS, 5, draining=False, writable=frozenset({DRAIN, LOCKED}))
    assert set(found.devices) == {"qpu", "kept"}
    types = {each.datatype for owner in (found.node, *found.devices.values()) for each in owner.values()}
    assert types == {DataType.INT64, DataType.DOUBLE, DataType.BOOLEAN, DataType.STRING}
    assert found.devices["qpu"]["State/Restarts"].value == 2
    assert {name for name in found.devices["qpu"] if name.startswith("Facts/")} == {
        "Facts/qubits",
        "Facts/fidelity",
        "Facts/ok",
    }
    assert {found.devices["qpu"][f"Facts/{name}"].datatype for name in ("qubits", "fidelity")} == {DataType.DOUBLE}
    assert found.devices["kept"][LOCKED].value is True
    assert found.node["Links/l/State"].quality == 0
    assert found.node["Host/Temperature Celsius"].value is None


def test_the_tables_of_metrics_are_complete() -> None:
    found = snapshot_of(STATUS, 5, draining=False, writable=frozenset())
    told = {name.replace("Links/l/", "Links/NAME/"): each.datatype for name, each in found.node.items()}
    assert told == {each.name: each.datatype for each in NODE_METRICS}
    plain = {name for name in found.devices["kept"] if not name.startswith("Facts/")}
    assert plain == {each.name for each in DEVICE_METRICS} - {"Facts/NAME"}
