"""Our description of ETSI GS QKD 014 is true: answers fit it, and requests made from it get what it promises."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from qedge.client.kme import path_of
from tests.house.source_tree import ROOT
from tests.integration.kme_site import Kmes, two_kmes

DOCUMENT = ROOT / "docs" / "guides" / "etsi-gs-qkd-014.openapi.json"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def test_answers_fit_their_schemas(tmp_path: Path) -> None:
    schemas = pytest.importorskip("jsonschema_rs")
    described = json.loads(DOCUMENT.read_text("utf-8"))

    def check(name: str, value: object) -> None:
        reference = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        schemas.Draft202012Validator(reference, validate_formats=True).validate(value)

    async with two_kmes(tmp_path) as kmes:
        alice, bob = kmes.kept("alice", "A"), kmes.kept("bob", "B")
        check("Status", json.loads((await alice.request("GET", path_of("bob", "status"))).body))
        taken = json.loads((await alice.request("POST", path_of("bob", "enc_keys"), b'{"number": 2}')).body)
        check("KeyContainer", taken)
        wanted = {"key_IDs": [{"key_ID": key["key_ID"]} for key in taken["keys"]]}
        check("KeyIds", wanted)
        body = json.dumps(wanted).encode()
        check("KeyContainer", json.loads((await bob.request("POST", path_of("alice", "dec_keys"), body)).body))
        refused = await bob.request("POST", path_of("alice", "dec_keys"), body)
        check("Error", json.loads(refused.body))
        unsupported = b'{"extension_mandatory": [{"x_y": 1}]}'
        check("KeyRequest", json.loads(unsupported))
        check("Error", json.loads((await alice.request("POST", path_of("bob", "enc_keys"), unsupported)).body))


@pytest.mark.long
async def test_requests_made_from_the_description_get_what_it_promises(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    async with two_kmes(tmp_path) as kmes:
        code, told = await _schemathesis(kmes, 30)
    assert code == 0, told


async def _schemathesis(kmes: Kmes, examples: int) -> tuple[int, str]:
    person = kmes.people["alice"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT)]
    command += ["--url", f"{kmes.a.service.address}/api/v1/keys", "--checks", CHECKS, "--no-color", "--seed", "7"]
    command += ["--phases", "examples,fuzzing", "--max-examples", str(examples), "--suppress-health-check", "all"]
    command += ["--request-cert", str(person.certificate), "--request-cert-key", str(person.private_key)]
    command += ["--tls-verify", str(person.authorities)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode()
