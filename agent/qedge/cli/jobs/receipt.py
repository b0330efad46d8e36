"""`qedge jobs verify`: what a runner signed for a result, checked without a daemon."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from qedge.base.errors import QedgeError
from qedge.cli.asking import print_json
from qedge.cli.terminal import clean
from qedge.crypto.trust import Trust, pin
from qedge.orchestrator.receipts.proof import check, no_receipt
from qedge.wire.envelope import take_apart
from qedge.wire.jobs import JobView


def verify(args: argparse.Namespace) -> int:
    """Check the receipt in a file; raises `job.no_receipt`, `job.bad_receipt`, `auth.*`, `client.usage`."""
    job = _read(Path(args.file))
    if job.receipt is None:
        raise no_receipt()
    found_pin = pin(job.receipt.anchor).hex()
    if args.pin and args.pin.lower() != found_pin:
        raise QedgeError(
            "auth.untrusted",
            f"The receipt is of a fleet with pin {found_pin}.",
            fix="Compare it with what `qedge fleet members` shows there.",
        )
    receipt = check(job, Trust(job.receipt.anchor, job.receipt.anchor.fleet))
    signed_utc_ns = take_apart(receipt.signed).header.utc_ns
    if args.json:
        print_json(
            {
                "job": job.id,
                "fleet": receipt.anchor.fleet,
                "pin": found_pin,
                "pin_checked": bool(args.pin),
                "runner": receipt.runner,
                "epoch": receipt.epoch,
                "job_hash": receipt.job_hash.hex(),
                "result_hash": receipt.result_hash.hex(),
                "signed_utc_ns": signed_utc_ns,
            }
        )
        return 0
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(signed_utc_ns / 1e9))
    runner, fleet = clean(receipt.runner), clean(receipt.anchor.fleet)
    print(f"The result of job {clean(job.id)} is what {runner} of fleet {fleet} signed at {when} UTC.")
    print(f"job hash    {receipt.job_hash.hex()}")
    print(f"result hash {receipt.result_hash.hex()}")
    print(f"fleet pin   {found_pin}{'' if args.pin else '  (compare it, or give it with --pin)'}")
    return 0


def _read(path: Path) -> JobView:
    try:
        return msgspec.json.decode(path.read_bytes(), type=JobView)
    except OSError as error:
        raise QedgeError("client.usage", f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise QedgeError(
            "client.usage", f"{path} is no job: {error}.", fix="Write it with `qedge jobs show ID --json`."
        ) from error
