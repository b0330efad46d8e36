"""What key stores say to each other: what was written once stays readable, and nothing too large is taken."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.wire.keys import (
    BlockNote,
    Cut,
    KeyBlocks,
    KeyBlocksCompared,
    KeyGrant,
    KeyProvenance,
    KeyReserve,
    KeyReserved,
    KeyVoid,
    KeyVoided,
    Origin,
    Verdict,
    VoidGrant,
)

GOLDEN = Path(__file__).parent / "golden_keys"
ID = bytes(range(16))
CUTS = (Cut(4, 0, 48), Cut(6, 32, 16))
PROVENANCE = KeyProvenance(
    Origin.RELAYED,
    "bb84-decoy",
    256,
    ("ab/4", "ab/6"),
    1,
    ("a", "b"),
    ("a", "b"),
    1e-15,
    2e-10,
    1e-12,
    2.1e-10,
    True,
    "alice",
    ("bob",),
    1_800_000_000_000_000_000,
    1_800_086_400_000_000_000,
)
GRANT = KeyGrant(ID, "ab", CUTS, (ID, ID[::-1]), 16, ID + ID[::-1], "alice", ("bob",), PROVENANCE, bytes(32), ID)
CASES: dict[str, msgspec.Struct] = {
    "key-reserve-1": KeyReserve((GRANT,)),
    "key-reserved-1": KeyReserved(("", "qkd.out_of_step")),
    "key-void-1": KeyVoid((VoidGrant(ID, "ab", CUTS),)),
    "key-voided-1": KeyVoided(),
    "key-blocks-1": KeyBlocks("ab", (BlockNote(4, 1000, ID),), 0, 7, (3,)),
    "key-blocks-compared-1": KeyBlocksCompared((Verdict.SAME, Verdict.LATER, Verdict.GONE)),
}


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -1e-10, 1.5])
@pytest.mark.parametrize("name", ["eps_cor", "eps_sec", "eps_auth", "eps_total"])
def test_no_peer_brings_an_epsilon_that_is_no_probability(name: str, bound: float) -> None:
    said = msgspec.to_builtins(PROVENANCE)
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.msgpack.decode(msgspec.msgpack.encode({**said, name: bound}), type=KeyProvenance)


@pytest.mark.parametrize("name", CASES)
def test_golden_files_are_read_and_written_as_ever(name: str) -> None:
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert msgspec.msgpack.decode(golden, type=type(CASES[name])) == CASES[name]
    assert msgspec.msgpack.encode(CASES[name]) == golden


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.bin")} == set(CASES)


@pytest.mark.parametrize(
    "bad",
    [
        KeyReserve((GRANT,) * 257),
        KeyReserve((msgspec.structs.replace(GRANT, id=b"short"),)),
        KeyReserve((msgspec.structs.replace(GRANT, cuts=()),)),
        KeyReserve((msgspec.structs.replace(GRANT, cuts=(Cut(4, 0, 0),)),)),
        KeyReserve((msgspec.structs.replace(GRANT, cuts=(Cut(-1, 0, 9),)),)),
        KeyReserve((msgspec.structs.replace(GRANT, key_bytes=0),)),
        KeyReserve((msgspec.structs.replace(GRANT, link="no name"),)),
        KeyBlocks("ab", (BlockNote(4, 1000, b"short"),), 0, 7),
        KeyBlocks("ab", (), -1, 7),
    ],
)
def test_messages_out_of_range_are_not_read(bad: msgspec.Struct) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(bad), type=type(bad))
