"""Daemons whose certificates are due, and the program beside the issuing key, over a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qedge.crypto.authority import Issued, Ledger, RootSecret
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.sealed_file import Cost
from qedge.wire.mesh import PeerView
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_site import DAY_NS, ThrowAwayFleet
from tests.integration.fleet_world import FleetWorld

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(180)]

KIND = "mosquitto" if MOSQUITTO else "iotcore"
PASSPHRASE = "correct horse battery"
SOON = "[fleet.renewal]\nwindow_s = 1\nretry_s = 1\nretry_cap_s = 2\n[http]\nenabled = false\n"


def found_long_ago(world: FleetWorld, *nodes: str) -> None:
    """Give nodes certificates of 30 days that were made 25 days ago, in a fleet that was founded then."""
    world.fleet = ThrowAwayFleet(utc_ns=time.time_ns() - 25 * DAY_NS)
    for node in nodes:
        world.fleet.enrol(world.folder / node, node)


def authority_of(fleet: ThrowAwayFleet, path: Path, keys: dict[str, str], passphrase: str) -> AuthorityFolder:
    """Write the folder of the fleet's authority, which knows nodes by their keys."""
    until_ns = fleet.utc_ns + 30 * DAY_NS
    issued = tuple(Issued(node, key_id, fleet.utc_ns, until_ns) for node, key_id in keys.items())
    ledger = Ledger(fleet.anchor, fleet.issuing, 3, 90, 0, issued)
    folder = AuthorityFolder(path)
    folder.create(
        ledger, RootSecret(fleet.root_key.seed), fleet.issuing_key.seed, passphrase, os.urandom, Cost(4, 1, 1)
    )
    (path / "passphrase").write_text(passphrase)
    return folder


@contextmanager
def renewer(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the program as a service does."""
    command = [sys.executable, "-m", "qedge", "fleet", "renewer", "--json", "--folder", str(folder)]
    command += ["--passphrase-file", str(folder / "passphrase"), "--broker", f"mqtt://127.0.0.1:{port}"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


async def until_renewed(world: FleetWorld, node: str) -> int:
    """Wait until a node has a certificate that lasts; returns until when."""
    limit = time.monotonic() + 60
    async with world.daemons[node].client() as client:
        while time.monotonic() < limit:
            view = await client.fleet.identity()
            if view.valid_until_utc_ns > time.time_ns() + 80 * DAY_NS:
                return view.valid_until_utc_ns
            await asyncio.sleep(0.1)
    raise AssertionError(world.daemons[node].log()[-4000:])


async def told_until(world: FleetWorld, at: str, of: str, until_utc_ns: int) -> PeerView:
    """Wait until a node knows of a peer's new certificate."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        view = await world.peer(at, of)
        if view is not None and view.certificate_until_utc_ns == until_utc_ns:
            return view
        await asyncio.sleep(0.1)
    raise AssertionError(f"{at} never heard of the certificate of {of}")


async def test_nodes_renew_while_they_work_and_nothing_restarts(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, KIND) as world:
        found_long_ago(world, "alpha", "beta", "stolen")
        for node in ("alpha", "beta", "stolen"):
            world.start_stranger(node, SOON)
        await world.wait_up("alpha", "beta", "stolen")
        await world.wait_together("alpha", "beta")
        await world.ping("alpha", "beta")
        keys = {}
        for node in world.daemons:
            async with world.daemons[node].client() as client:
                keys[node] = (await client.fleet.identity()).key_id
        folder = authority_of(world.fleet, tmp_path / "authority", keys, PASSPHRASE)
        authority = folder.open(PASSPHRASE)
        with folder.turn(authority):
            authority.revoke("stolen", "stolen", time.time_ns())
        before = [await world.peer("alpha", "beta"), await world.peer("beta", "alpha")]
        with renewer(folder.path, world.broker.port):
            untils = {node: await until_renewed(world, node) for node in ("alpha", "beta")}
        await world.ping("alpha", "beta")
        for old, at in zip(before, ("alpha", "beta"), strict=True):
            assert old is not None
            new = await told_until(world, at, old.node, untils[old.node])
            assert (new.epoch, new.since_utc_ns // 10**9) == (old.epoch, old.since_utc_ns // 10**9)  # nobody restarted
        async with world.daemons["stolen"].client() as client:
            view = await client.fleet.identity()
        assert view.valid_until_utc_ns < time.time_ns() + 6 * DAY_NS
        assert "nobody answers" in view.renewal
        trail = [json.loads(line)["entry"] for line in (folder.path / "audit.jsonl").read_text().splitlines()]
        assert sorted((each["act"], each["node"]) for each in trail) == [("renewed", "alpha"), ("renewed", "beta")]
