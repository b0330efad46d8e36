"""What a node tells the cloud of its jobs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.ledger import MAX_RECORDS, JobRecord


class ResultReports(msgspec.Struct, frozen=True, tag_field="type", tag="result-reports/1"):
    """Jobs of the node that ended; a result that is too large for a message is left out of its record."""

    records: Annotated[tuple[JobRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]
