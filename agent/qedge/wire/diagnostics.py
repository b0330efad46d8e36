"""What a look at a box finds: checks with their fixes, and what a bundle of diagnostics holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.trust import Utc

Sentence = Annotated[str, msgspec.Meta(max_length=1000)]


class CheckVerdict(StrEnum):
    """How a check ended. `SKIPPED`: there was nothing to look at, and `finding` says why."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class DoctorCheck(msgspec.Struct, frozen=True):
    """One thing that was looked at. `fix` says what to do where `verdict` is `warning` or `failed`."""

    subject: Sentence
    verdict: CheckVerdict
    finding: Sentence
    fix: Sentence = ""


class DoctorReport(msgspec.Struct, frozen=True, tag_field="type", tag="doctor-report/1"):
    """All checks of a box; `running`: its daemon answered."""

    node: Sentence
    version: Sentence
    utc_ns: Utc
    running: bool
    checks: Annotated[tuple[DoctorCheck, ...], msgspec.Meta(max_length=500)]


class BundleFile(msgspec.Struct, frozen=True):
    """One file of a bundle; `cut`: its beginning was left out to keep the bundle small."""

    name: Sentence
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    cut: bool = False


class DiagnosticsSummary(msgspec.Struct, frozen=True, tag_field="type", tag="diagnostics-summary/1"):
    """A bundle that was written: `sha256` in hex; `redactions`: how often what may be secret was taken out."""

    path: Sentence
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    redactions: Annotated[int, msgspec.Meta(ge=0)]
    files: Annotated[tuple[BundleFile, ...], msgspec.Meta(max_length=100)]
