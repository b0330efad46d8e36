"""What a node of the demo needs to take devices: configuration and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CONFIG: Final = """[devices]
enabled = true
[devices.listener]
listen = ["127.0.0.1:0"]
[devices.segments.plant]
channels = ["temperature"]
[security.policy]
file = "{policy}"
[security.detection]
messages = 200
"""
_POLICY: Final = """version = 1
[segments.plant]
channels = ["temperature"]
[rules.devices-connect]
effect = "permit"
subjects = { kinds = ["device"] }
actions = ["connect"]
resources = { node = true }
[rules.meters-report]
effect = "permit"
subjects = { kinds = ["device"], classes = ["meter"] }
actions = ["publish"]
resources = { segments = ["plant"], channels = ["temperature"] }
when = { trust = 25 }
"""


def gateway_config(home: Path) -> str:
    """Return what a node of the demo needs in its configuration to take devices; writes its policy below `home`."""
    policy = home / "policy.toml"
    policy.write_text(_POLICY)
    return _CONFIG.format(policy=policy)
