"""Runs the cases one after another: a key manager that hangs or breaks fails a case, never the probe."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.client.kme_link import Credentials
from qedge.client.probe import cases_extensions, cases_ids, cases_keys, cases_status, cases_transport
from qedge.client.probe.case import CASES, Case
from qedge.client.probe.stand import Stand
from qedge.client.probe.verdict import CaseResult, FailedError, ProbeReport, SkippedError, Verdict, WarnedError
from qedge.crypto.web_authority import WebAuthority, found_web, make_request, new_key

MODULES: Final = (cases_transport, cases_status, cases_keys, cases_extensions, cases_ids)
"""Importing them is what enters their cases."""

CASE_LIMIT_S: Final = 60.0


async def probe(
    stand: Stand,
    *,
    consume: bool,
    only: Collection[int] = (),
    told: Callable[[CaseResult], None] = lambda _result: None,
) -> ProbeReport:
    """Run all cases, or `only` some; without `consume` those that take keys are skipped. `told` hears each result."""
    results = []
    try:
        for number in sorted(CASES):
            if only and number not in only:
                continue
            results.append(await _run(CASES[number], stand, consume))
            told(results[-1])
    finally:
        await stand.close()
    return ProbeReport(f"https://{stand.place.authority}{stand.place.prefix}", tuple(results), stand.consumed)


async def _run(case: Case, stand: Stand, consume: bool) -> CaseResult:
    if case.consumes and not consume:
        return CaseResult(case.id, case.title, Verdict.SKIPPED, "takes keys, and nobody has said that it may")
    try:
        async with asyncio.timeout(CASE_LIMIT_S):
            await case.run(stand)
    except SkippedError as skipped:
        return CaseResult(case.id, case.title, Verdict.SKIPPED, str(skipped))
    except WarnedError as warned:
        return CaseResult(case.id, case.title, Verdict.WARNED, str(warned))
    except (FailedError, QedgeError, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, KeyError) as error:
        await stand.close()  # what comes next begins with connections of its own
        return CaseResult(case.id, case.title, Verdict.FAILED, str(error) or type(error).__name__)
    return CaseResult(case.id, case.title, Verdict.PASSED)


def foreign_credentials(folder: Path, sae_id: str, authorities: Path) -> Credentials:
    """Make a certificate of an authority that nobody knows, for case 5."""
    ledger, key_of_authority = found_web("probe", utc_ns=time.time_ns(), random_bytes=os.urandom)
    authority, key = WebAuthority(ledger, key_of_authority), new_key(os.urandom)
    uri = "probe" if not sae_id.isascii() else sae_id
    certificate = authority.issue_client(make_request(key, uri), uri, utc_ns=time.time_ns(), random_bytes=os.urandom)
    made = Credentials(folder / "foreign.crt", folder / "foreign.key", authorities)
    made.certificate.write_text(certificate)
    made.private_key.write_text(key)
    return made
