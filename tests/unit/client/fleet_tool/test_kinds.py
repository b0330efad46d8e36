"""Arguments of kinds of commands from words and files."""

from __future__ import annotations

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.kinds import ARGUMENTS, encode_arguments, read_result
from qedge.daemon.fleet.executors import KINDS
from qedge.fleet.commands.cancelling import Cancel
from qedge.wire.command_kinds import DriverCommand, LogAsk
from qedge.wire.policy import PolicyNotice


def read(name: str) -> bytes:
    return {"policy.signed": b"\x00\xff", "words.txt": b"order."}[name]


def test_every_kind_that_nodes_carry_out_is_known_with_its_struct() -> None:
    assert {kind.kind: kind.arguments for kind in (*KINDS, Cancel)} == ARGUMENTS


def test_words_become_the_struct_of_the_kind() -> None:
    data = encode_arguments("logs", ["lines=20", "level=warning", "contains=@words.txt"], read)
    assert msgspec.msgpack.decode(data, type=LogAsk) == LogAsk(20, "warning", "order.")
    data = encode_arguments("policy", ["signed=@policy.signed"], read)
    assert msgspec.msgpack.decode(data, type=PolicyNotice) == PolicyNotice(b"\x00\xff")
    data = encode_arguments("driver", ['settings={"shots": 5, "names": ["a"]}'], read, {"name": "qpu", "enabled": True})
    assert msgspec.msgpack.decode(data, type=DriverCommand) == DriverCommand(
        "qpu", settings={"shots": 5, "names": ["a"]}, enabled=True
    )
    assert encode_arguments("restart-agent", [], read) == b""


def test_a_kind_that_is_not_known_takes_what_is_given_under_a_name() -> None:
    data = encode_arguments("dance", ["type=dance/1", "steps=3", "tune=waltz"], read)
    assert msgspec.msgpack.decode(data) == {"type": "dance/1", "steps": 3, "tune": "waltz"}
    assert encode_arguments("dance", [], read) == b""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("logs", ["lines"]),
        ("logs", ["lines=0"]),
        ("logs", ["lines=x"]),
        ("logs", ["length=5"]),
        ("logs", ["level.deep=5"]),
        ("logs", ["=5"]),
        ("restart-agent", ["now=true"]),
        ("driver", []),
        ("dance", ["steps=3"]),
        ("dance", ["steps"]),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(kind: str, words: list[str]) -> None:
    with pytest.raises(QedgeError) as caught:
        encode_arguments(kind, words, read)
    assert caught.value.code == "fleet.bad_arguments"


def test_results_are_shown_as_far_as_they_can_be_read() -> None:
    assert read_result(msgspec.msgpack.encode({"a": 1})) == {"a": 1}
    assert read_result(b"") is None
    assert read_result(b"\xc1") is None
