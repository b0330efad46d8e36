"""What the long run of updates changes in the source to get bad versions is still there; seen here, in no time."""

from __future__ import annotations

import pytest

from tests.integration.debian import ROOT
from tests.integration.test_update_systemd import VERSIONS


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_the_source_has_each_line_once_that_a_bad_version_is_made_of(name: str) -> None:
    for file, text, instead in VERSIONS[name][1]:
        assert (ROOT / file).read_text().count(text) == 1, file
        assert text != instead
