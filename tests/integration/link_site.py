"""What two daemons with a simulated fibre between them are configured with, and certificates of applications."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from qedge.client.kme_link import Credentials
from tests.integration.fleet_world import FleetWorld

ENDS = {"alpha": ("bob", "beta"), "beta": ("alice", "alpha")}
"""Node, the role of its transceiver, and its peer."""

LINK = """
[drivers.qkd]
driver = "sim_qkd"
[drivers.qkd.settings]
role = "{role}"
link = "fibre"
preset = "plan"
fibre = "unix:{fibre}"
[qkd.links.fibre]
transceiver = "qkd"
peer = "{peer}"
block_bits = {block_bits}
"""
DELIVERY = """
[qkd.delivery]
enabled = true
port = {port}
[qkd.saes.alice]
node = "{alice}"
permit = ["bob"]
[qkd.saes.bob]
node = "{bob}"
permit = ["alice"]
[qkd.saes.eve]
permit = ["alice"]
"""


def link_config(folder: Path, node: str, block_bits: int = 1 << 20) -> str:
    """Return the part of a node's configuration that has its end of the link."""
    role, peer = ENDS[node]
    return LINK.format(role=role, peer=peer, fibre=folder / "fibre.sock", block_bits=block_bits)


def delivery_config(node: str, port: int = 0) -> str:
    """Return the part that hands keys to `alice` at alpha and to `bob` at beta."""
    alice, bob = ("" if node == "alpha" else "alpha"), ("" if node == "beta" else "beta")
    return DELIVERY.format(port=port, alice=alice, bob=bob)


async def credentials(world: FleetWorld, node: str, name: str) -> Credentials:
    """Have the node's authority issue a certificate to an application."""
    folder, daemon = world.folder / f"{node}-{name}", world.daemons[node]
    command = [sys.executable, "-m", "qedge", "keys", "sae", "issue", name, "--out", str(folder)]
    environ = {**os.environ, "QEDGE_SOCKET": str(daemon.socket)}
    done = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Credentials(folder / f"{name}.crt", folder / f"{name}.key", folder / "ca.crt")
