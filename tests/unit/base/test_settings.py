"""Claims about `qedge.base.settings`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
import pytest

from qedge.base.settings import MAX_FAULTS, Fault, check, document, dotted, toml_value


class Colour(StrEnum):
    """Some words."""

    RED = "red"


class Painted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[painted]`: a choice that is an enum."""

    colour: Colour = Colour.RED


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[outer.inner]`: a table in a table."""

    depth: Annotated[int, msgspec.Meta(description="How deep.", ge=1, le=9)] = 3


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[outer]`: one of every kind."""

    name: Annotated[str, msgspec.Meta(description="What it is called.", pattern="^[a-z]+$", max_length=8)]
    wait_s: Annotated[float, msgspec.Meta(description="How long.", gt=0, le=60)] = 1.5
    size_bytes: Annotated[int, msgspec.Meta(description="How much.", ge=16)] = 4096
    mode: Annotated[Literal["fast", "safe"], msgspec.Meta(description="How.")] = "safe"
    on: Annotated[bool, msgspec.Meta(description="Whether.")] = True
    uids: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(description="Which.", max_length=2)
    ] = ()
    password: Annotated[str, msgspec.Meta(description="Secret.", max_length=8)] = ""
    inner: Inner = Inner()
    extra: dict[str, int | str] = {}

    def __post_init__(self) -> None:
        if self.mode == "fast" and self.wait_s > 10:
            raise ValueError("mode fast needs wait_s of at most 10")


def _by_key(values: dict[str, object]) -> dict[str, Fault]:
    return {fault.key: fault for fault in check(Outer, values)}


def test_values_that_fit_have_no_faults_and_a_whole_number_may_stand_for_a_float() -> None:
    assert check(Outer, {"name": "abc", "wait_s": 2, "uids": [1, 2], "inner": {"depth": 9}, "extra": {"a": 1}}) == []


def test_every_fault_is_found_not_only_the_first() -> None:
    faults = _by_key(
        {
            "wait_s": 99,
            "size_bytes": 1.5,
            "mode": "slow",
            "on": 1,
            "uids": [1, -1, "x"],
            "inner": {"depth": 0, "dept": 1},
            "extra": {"a": []},
        }
    )
    assert set(faults) == {
        "name",
        "wait_s",
        "size_bytes",
        "mode",
        "on",
        "uids",
        "uids[1]",
        "uids[2]",
        "inner.depth",
        "inner.dept",
        "extra.a",
    }


def test_a_fault_says_type_unit_and_range() -> None:
    faults = _by_key({"name": "a", "wait_s": 0, "size_bytes": 3, "mode": "slow", "on": "yes", "uids": 4})
    assert faults["wait_s"].expected == "a number (seconds), more than 0, at most 60"
    assert faults["size_bytes"].expected == "a whole number (bytes), at least 16"
    assert faults["mode"].expected == 'one of "fast", "safe"'
    assert faults["on"].expected == "true or false"
    assert faults["uids"].problem == "is 4"
    assert faults["uids"].expected == "a list of whole numbers (at least 0), at most 2 items"


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    assert "'size_bytes'" in _by_key({"name": "a", "size_byte": 1})["size_byte"].expected


def test_a_bool_is_not_a_number_and_an_infinite_number_is_none() -> None:
    assert set(_by_key({"name": "a", "size_bytes": True, "wait_s": float("inf")})) == {"size_bytes", "wait_s"}


def test_a_rule_over_several_keys_is_a_fault_of_their_table() -> None:
    (fault,) = check(Outer, {"name": "a", "mode": "fast", "wait_s": 20}, ("outer",))
    assert (fault.key, fault.problem) == ("outer", "mode fast needs wait_s of at most 10")


def test_a_fault_never_shows_a_secret() -> None:
    (fault,) = check(Outer, {"name": "a", "password": "correct-horse"})
    assert "correct-horse" not in str(fault)


def test_a_number_too_large_for_the_reader_is_a_fault_not_a_crash() -> None:
    assert set(_by_key({"name": "a", "size_bytes": 10**30, "wait_s": 10**30})) == {"size_bytes", "wait_s"}


def test_every_key_is_documented_with_default_unit_and_range() -> None:
    rows = {dotted(row.path): row for row in document(Outer)}
    assert next(iter(rows)) == "name"
    assert rows["name"].required
    assert (rows["wait_s"].default, rows["wait_s"].unit, rows["wait_s"].range) == (
        1.5,
        "seconds",
        "more than 0, at most 60",
    )
    assert rows["inner.depth"].description == "How deep."


def test_key_paths_are_written_as_toml_does() -> None:
    assert dotted(("a", "b c", 2, "d")) == 'a."b c"[2].d'


def test_values_are_written_as_toml_does() -> None:
    assert toml_value({"a": [1, 2.0, "x\n"], "b": True}) == '{ a = [1, 2.0, "x\\u000A"], b = true }'


def test_a_flood_of_faults_is_cut_off() -> None:
    assert len(check(Outer, {"name": "a", "inner": {f"k{index}": 1 for index in range(100_000)}})) == MAX_FAULTS


@pytest.mark.parametrize("value", [{}, [], {"a": [1]}, "blue", 1, True])
def test_whatever_stands_for_a_choice_is_a_fault_not_a_crash(value: object) -> None:
    (fault,) = check(Painted, {"colour": value})
    assert fault.expected == 'one of "red"'
