"""What tests with real processes start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.descendants import Descendants


@pytest.fixture
def descendants() -> Iterator[Descendants]:
    """Return a mark for processes; those that have it end with the test."""
    family = Descendants()
    yield family
    family.end()
