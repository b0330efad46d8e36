"""Versions sort as PEP 440 says."""

from __future__ import annotations

import itertools

import pytest
from packaging.version import Version

from qedge.fleet.update.versions import order_of

TEXTS = [
    "0.1.dev1", "0.1a1.dev1", "0.1a1", "0.1a2", "0.1b1", "0.1rc1.dev2", "0.1rc1", "0.1rc10", "0.1", "0.1.1", "0.2",
    "0.10", "1.0", "1.0.0", "1.0.1.dev0", "1.0.1", "2.0",
]  # fmt: skip


def test_any_two_sort_as_packaging_sorts_them() -> None:
    for one, other in itertools.product(TEXTS, repeat=2):
        assert (order_of(one) < order_of(other)) == (Version(one) < Version(other)), (one, other)
        assert (order_of(one) == order_of(other)) == (Version(one) == Version(other)), (one, other)


@pytest.mark.parametrize("text", ["", "1", "v1.0", "1.0+local", "1!1.0", "1.0-1", "x"])
def test_what_is_no_version_here_is_told_apart(text: str) -> None:
    if text == "1":
        assert order_of(text) == order_of("1.0")
        return
    with pytest.raises(ValueError, match="not a version"):
        order_of(text)
