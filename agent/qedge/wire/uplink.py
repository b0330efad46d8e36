"""What a node tells the cloud of its jobs, and what the cloud says to that."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.ledger import MAX_RECORDS, JobRecord
from qedge.wire.mesh import Short


class ResultReports(msgspec.Struct, frozen=True, tag_field="type", tag="result-reports/1"):
    """Jobs of the node that ended; a result that is too large for a message is left out of its record."""

    records: Annotated[tuple[JobRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]


class ResultsHeard(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="results-heard/1"):
    """A node of the cloud has reports on its disk, in a signed envelope on the reply topic of who sent them.

    `digest` is SHA3-256 of the message with the reports, as it was sent. `refused` of its records are not kept, and
    will not be when they come again. With a `code` of the error table nothing was written down: all are to come again.
    """

    digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    refused: Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)] = 0
    code: Short = ""
