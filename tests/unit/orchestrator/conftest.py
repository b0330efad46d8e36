"""What tests of several nodes start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.orchestrator.peer_site import EngineSite


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[EngineSite]:
    """Return a place for nodes, which end with the test."""
    made = EngineSite(tmp_path)
    yield made
    await made.close()
