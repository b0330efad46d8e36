"""Finds the one `Subject` of whoever asks: devices in the registry, apps and peers as they are known here. Pure."""

from __future__ import annotations

from collections.abc import Callable

from qedge.devices.segments.model import FOREVER, OPERATOR
from qedge.security.model import Subject, SubjectKind

Find = Callable[[str], Subject | None]


class Directory:
    """Implements `Subjects`.

    `device` finds devices. `is_app` and `is_peer` say which names are of apps in this node, and of members of the fleet
    whose key counts now; their subjects are made here, once each, and what policy should know of them is set on those.
    """

    def __init__(self, device: Find, is_app: Callable[[str], bool], is_peer: Callable[[str], bool]) -> None:
        self._device = device
        self._is_known = {SubjectKind.APP: is_app, SubjectKind.PEER: is_peer}
        self._made: dict[tuple[SubjectKind, str], Subject] = {(OPERATOR.kind, OPERATOR.id): OPERATOR}

    def find(self, kind: SubjectKind, name: str) -> Subject | None:
        """Return a subject; None for names that are nobody's, or nobody's any more."""
        if kind is SubjectKind.DEVICE:
            return self._device(name)
        is_known = self._is_known.get(kind)
        if is_known is None or not (is_known(name) or (kind is OPERATOR.kind and name == OPERATOR.id)):
            return None
        subject = self._made.get((kind, name))
        if subject is None:
            # each question of a peer comes in a session that proves it, and apps by the user that they run as
            subject = self._made[kind, name] = Subject(name, kind, lease_until_ns=FOREVER)
        return subject
