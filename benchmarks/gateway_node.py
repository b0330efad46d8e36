"""A daemon with the gateway on, a policy and devices: configuration, and the import of devices through its socket."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.node import Node
from qedge.client.node import NodeClient
from qedge.wire.gateway import DeviceBatch, DeviceDraft, DeviceProfile

SEGMENTS: Final = 20
_BATCH: Final = 500
_CONFIG: Final = """
[drivers.qrng]
driver = "sim_qrng"
[devices]
enabled = true
[devices.sessions]
enrolments_per_s = 2000
full_handshakes_per_s = 1000
waiting = 4096
[devices.enrolment]
token_s = 3600
[devices.listener]
listen = ["127.0.0.1:0"]
connects_per_s = 1000
"""


def configure(home: Path) -> str:
    """Make the folder of a node with a policy in it; returns the configuration."""
    home.mkdir(parents=True)
    lines = ["version = 1"]
    for number in range(SEGMENTS):
        lines += [f"[segments.s{number}]\nchannels = ['t']"]
    lines += ["[rules.connect]\nsubjects.kinds = ['device']\neffect = 'permit'\nactions = ['connect']"]
    lines += ["resources.node = true\n[rules.publish]\nsubjects.kinds = ['device']\neffect = 'permit'"]
    lines += ["actions = ['publish']\nresources = { segments = ['*'], channels = ['t'] }"]
    (home / "policy.toml").write_text("\n".join(lines) + "\n")
    segments = "".join(f"[devices.segments.s{number}]\nchannels = ['t']\n" for number in range(SEGMENTS))
    return f'{_CONFIG}{segments}[security.policy]\nfile = "{home}/policy.toml"\n'


def drafts(count: int) -> list[DeviceDraft]:
    """Name devices, every other one rich, over classes and segments."""
    return [
        DeviceDraft(
            f"d{number:05d}",
            "rich" if number % 2 == 0 else "constrained",
            DeviceProfile(f"k{number % 7}", f"s{number % SEGMENTS}"),
        )
        for number in range(count)
    ]


async def import_devices(node: Node, devices: list[DeviceDraft]) -> tuple[list[str], int]:
    """Import devices as `qedge device import` does; returns their lines and the port that they connect to."""
    lines: list[str] = []
    async with NodeClient(node.socket) as client:
        for start in range(0, len(devices), _BATCH):
            added = await client.devices.add_batch(DeviceBatch(tuple(devices[start : start + _BATCH])))
            lines += [each.line for each in added.invited]
        gateway = (await client.status()).gateway
    if gateway is None or len(lines) != len(devices):
        raise RuntimeError(f"{len(lines)} of {len(devices)} devices were added")
    return lines, int(gateway.addresses[0].rsplit(":", 1)[1])
