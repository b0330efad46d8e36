"""`qedge jobs verify`: a receipt is checked from a file alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest

from qedge.cli.main import main
from qedge.crypto.trust import pin
from qedge.orchestrator.receipts.proof import entry_of, job_hash, result_hash, sign_root
from qedge.orchestrator.receipts.tree import root_and_paths
from qedge.wire.jobs import JobResult, JobState, JobSubmission, JobView
from qedge.wire.receipts import Receipt, ReceiptRoot
from tests.integration.fleet_site import ThrowAwayFleet

RESULT = JobResult({"00": 6, "11": 4}, 10, 7, (), {"run": 0.5}, {"simulated": True, "noise": 0.25})


def signed_job(fleet: ThrowAwayFleet) -> JobView:
    key, chain = fleet.member("b")
    asked, given = job_hash(JobSubmission(program="p", seed=7)), result_hash(RESULT)
    root, paths = root_and_paths([entry_of("other", 1, asked, given), entry_of("job", 3, asked, given)])
    signed = sign_root(ReceiptRoot(root, 2), fleet.name, "b", key, chain, time.time_ns())
    receipt = Receipt("b", 3, asked, given, 1, paths[1], signed, fleet.anchor)
    return JobView("job", JobState.DONE, 10, 0, "me", result=RESULT, receipt=receipt)


def test_a_good_receipt_names_its_signer_and_the_pin_of_the_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet, path = ThrowAwayFleet("lab"), tmp_path / "job.json"
    path.write_bytes(msgspec.json.encode(signed_job(fleet)))
    assert main(["jobs", "verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert "what b of fleet lab signed" in said
    assert pin(fleet.anchor).hex() in said
    assert main(["jobs", "verify", str(path), "--json", "--pin", pin(fleet.anchor).hex()]) == 0
    assert json.loads(capsys.readouterr().out)["pin_checked"] is True


@pytest.mark.parametrize("what", ["pin", "result", "none", "file"])
def test_a_receipt_of_another_fleet_or_result_is_refused(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, path = signed_job(ThrowAwayFleet("lab")), tmp_path / "job.json"
    if what == "result":
        job = msgspec.structs.replace(job, result=msgspec.structs.replace(RESULT, counts={"00": 5, "11": 5}))
    if what == "none":
        job = msgspec.structs.replace(job, receipt=None)
    path.write_bytes(b"{" if what == "file" else msgspec.json.encode(job))
    assert main(["jobs", "verify", str(path), *(["--pin", "00" * 32] if what == "pin" else [])]) != 0
    codes = {"pin": "auth.untrusted", "result": "job.bad_receipt", "none": "job.no_receipt", "file": "client.usage"}
    assert codes[what] in capsys.readouterr().err
