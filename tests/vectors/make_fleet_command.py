"""Writes `fleet-command.json`: a request and a report as they go over the wire, with everything they are made of.

`python -m tests.vectors.make_fleet_command`. Certificates and signatures are random, so a new file differs; the tests
hold that it fits the code, and `docs/generate.py` puts it into the reference.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import msgspec

from qedge.crypto.certificates import make_leaf
from qedge.crypto.keys import SigningKey
from qedge.crypto.model import Role, Subject
from qedge.crypto.operators import sign_request
from qedge.crypto.signed import sign_envelope, split_signed
from qedge.wire.command_kinds import DrainCommand
from qedge.wire.commands import CommandReport, CommandRequest, OperatorRole, state_topic
from qedge.wire.envelope import Header, purpose_of
from tests.integration.fleet_site import ThrowAwayFleet

FILE = Path(__file__).with_name("fleet-command.json")
UTC_NS = 1_800_000_000_000_000_000
ID = "01a30d7a-5c00-7123-8abc-0123456789ab"


def main() -> None:
    """Write the file."""
    fleet = ThrowAwayFleet("home", utc_ns=UTC_NS - 86_400 * 10**9)
    seed = bytes(range(32))
    key = SigningKey.from_seed("ml-dsa-65", seed)
    chain = (certify(fleet, key), fleet.issuing)
    request = CommandRequest(
        id=ID,
        fleet="home",
        node="alpha",
        kind="drain",
        serial=7,
        issued_utc_ns=UTC_NS,
        expires_utc_ns=UTC_NS + 600 * 10**9,
        arguments=msgspec.msgpack.encode(DrainCommand(undo=True)),
        note="back to work",
    )
    node_key, node_chain = fleet.member("alpha")
    where = state_topic("home", "alpha", ID)
    report = CommandReport(ID, "drain", "successful", 3, UTC_NS + 10**9, operator="ann", progress=1.0)
    header = Header(where, "alpha", 12, purpose_of(CommandReport), UTC_NS + 10**9)
    signed = sign_envelope(header, report, node_key, node_chain)
    content = {
        "root": fleet.root.hex(),
        "operator": {"name": "ann", "algorithm": key.algorithm, "seed": seed.hex(), "chain": [x.hex() for x in chain]},
        "request": {**_fields(request), "arguments": request.arguments.hex()},
        "signature": split_signed(sign_request(request, key, chain))[2].hex(),
        "report": signed.hex(),
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")


def _fields(request: CommandRequest) -> dict[str, object]:
    """Return what goes over the wire: a field that is left out is none."""
    return {name: value for name, value in msgspec.structs.asdict(request).items() if value is not msgspec.UNSET}


def certify(fleet: ThrowAwayFleet, key: SigningKey) -> bytes:
    """Certify an operator's key whose seed is known."""
    return make_leaf(
        Subject(fleet.name, Role.OPERATOR, "ann"),
        key.public_key,
        fleet.issuing,
        fleet.issuing_key,
        fleet.utc_ns,
        600,
        secrets.token_bytes,
        roles=(OperatorRole.OPERATOR,),
    )


if __name__ == "__main__":
    main()
