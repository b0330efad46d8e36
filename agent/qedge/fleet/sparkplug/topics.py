"""Topics of a Sparkplug edge node (tck-id-topic-structure), and what names may look like in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qedge.fleet.sparkplug.model import Verb

NAMESPACE: Final = "spBv1.0"
"""tck-id-topic-structure-namespace-a"""

_RESERVED: Final = frozenset("+/#")


def is_id(text: str) -> bool:
    """Say whether a text can be the name of a group, node, device or host."""
    return 0 < len(text) <= 64 and not any(each in _RESERVED or ord(each) < 0x20 or ord(each) == 0x7F for each in text)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node: its group and its own name, which together are its descriptor."""

    group: str
    node: str

    def of(self, verb: Verb, device: str = "") -> str:
        """Return a topic: verbs of the node have no device, verbs of a device have one.

        tck-id-topics-{nbirth,ndata,ndeath,ncmd,dbirth,ddata,ddeath,dcmd}-topic,
        tck-id-topic-structure-namespace-device-id-{associated,non-associated}-message-types,
        tck-id-message-flow-edge-node-birth-publish-nbirth-topic,
        tck-id-message-flow-device-birth-publish-dbirth-{topic,match-edge-node-topic}.
        """
        if (verb.value[0] == "D") != bool(device):
            raise ValueError(f"{verb} with device {device!r}")
        head = f"{NAMESPACE}/{self.group}/{verb.value}/{self.node}"
        return f"{head}/{device}" if device else head

    @property
    def commands_of_devices(self) -> str:
        """Filter of the commands to all devices (tck-id-message-flow-device-dcmd-subscribe)."""
        return f"{NAMESPACE}/{self.group}/{Verb.DCMD.value}/{self.node}/+"

    def commanded(self, topic: str) -> str | None:
        """Return the device that a command is for, empty for the node; None: it is no command to this node."""
        if topic == self.of(Verb.NCMD):
            return ""
        prefix = self.commands_of_devices[:-1]
        device = topic.removeprefix(prefix)
        return device if device != topic and is_id(device) else None


def state_topic(host: str) -> str:
    """Return where a host says whether it is online."""
    return f"{NAMESPACE}/STATE/{host}"
