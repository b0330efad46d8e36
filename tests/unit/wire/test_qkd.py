"""What the two ends of a link say to each other: what was written once stays readable.

`python -m tests.unit.wire.test_qkd` writes the files of messages that have none yet.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as mi
import pytest

from qedge.wire import qkd

GOLDEN = Path(__file__).parent / "golden_qkd"
MESSAGES: dict[str, type[msgspec.Struct]] = {
    str(kind.__struct_config__.tag).replace("/", "-"): kind
    for _, kind in inspect.getmembers(qkd, inspect.isclass)
    if issubclass(kind, msgspec.Struct) and kind.__module__ == qkd.__name__ and kind.__struct_config__.tag
}


def sample(kind: mi.Type, place: int) -> Any:
    """Make a value of a type; `place` varies it."""
    if isinstance(kind, mi.BytesType):
        length = kind.min_length or 3
        return bytes((place + index) % 256 for index in range(length))
    if isinstance(kind, mi.StrType):
        return f"word-{place}"
    if isinstance(kind, mi.BoolType):
        return True
    if isinstance(kind, mi.IntType):
        return max(kind.ge or 0, 1) + place
    if isinstance(kind, mi.FloatType):
        return 0.5 / (place + 1)
    if isinstance(kind, (mi.VarTupleType, mi.ListType)):
        return tuple(sample(kind.item_type, place + index) for index in range(max(kind.min_length or 0, 2)))
    if isinstance(kind, mi.TupleType):
        return tuple(sample(each, place + index) for index, each in enumerate(kind.item_types))
    if isinstance(kind, mi.EnumType):
        return next(iter(kind.cls))
    if isinstance(kind, mi.StructType):
        return kind.cls(**{field.name: sample(field.type, index) for index, field in enumerate(kind.fields)})
    if isinstance(kind, mi.UnionType):
        return sample(kind.types[0], place)
    if isinstance(kind, mi.Metadata):
        return sample(kind.type, place)
    raise NotImplementedError(kind)


def case(name: str) -> msgspec.Struct:
    """Return the sample of a message."""
    made = sample(mi.type_info(MESSAGES[name]), 0)
    assert isinstance(made, msgspec.Struct)
    return made


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_golden_files_are_read_and_written_as_ever(name: str) -> None:
    golden, made = (GOLDEN / f"{name}.bin").read_bytes(), case(name)
    assert msgspec.msgpack.decode(golden, type=type(made)) == made
    assert msgspec.msgpack.encode(made) == golden


def test_every_golden_file_belongs_to_a_message() -> None:
    assert {file.stem for file in GOLDEN.glob("*.bin")} == set(MESSAGES)


if __name__ == "__main__":
    for each in MESSAGES:
        file = GOLDEN / f"{each}.bin"
        if not file.exists():
            file.write_bytes(msgspec.msgpack.encode(case(each)))
