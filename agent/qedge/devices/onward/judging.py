"""The enforcement point of the way upstream: what goes there is asked of policy, with the cloud as the subject. Pure.

To policy the upstream is the subject `upstream` of kind `cloud`, which subscribes to channels of segments. It is asked
at every reading that would be kept for it, and of what has waited once more before it is sent, for the policy may be
another by then.
"""

from __future__ import annotations

from typing import Final

from qedge.base.clock import Clock
from qedge.base.metrics import Metrics
from qedge.devices.segments.model import FOREVER, RetentionClass
from qedge.devices.segments.ports import Denied, Onward
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.ports import Judge

UPSTREAM: Final = "upstream"
"""The name by which rules can speak of who reads what goes upstream."""

_OF_THE_MOMENT: Final = frozenset({Reason.RATE, Reason.TIME})
_MAX_CHANNELS: Final = 4096


class UpstreamGate:
    """Implements `Onward`: hands on to another what policy lets through."""

    def __init__(self, judge: Judge, denied: Denied, onward: Onward | None, *, clock: Clock, metrics: Metrics) -> None:
        """`onward` None: it is set later, before the first reading."""
        self._decide = judge.decide
        self._denied = denied
        self.onward = onward
        self._clock = clock
        self._metrics = metrics
        self._subject = Subject(UPSTREAM, SubjectKind.CLOUD, lease_until_ns=FOREVER)
        self._resources: dict[tuple[str, str], Resource] = {}
        self._sendable: dict[tuple[str, str], bool] = {}

    def put(self, device: str, segment: str, channel: str, retention: RetentionClass, utc_ns: int, body: bytes) -> bool:
        """Keep a reading for the upstream where policy permits; False where it goes no further."""
        if self.onward is None or not self._ask(segment, channel).allowed:
            return False
        return self.onward.put(device, segment, channel, retention, utc_ns, body)

    def may_send(self, segment: str, channel: str) -> bool:
        """Say whether what waited of a channel may go now; asked of policy once for as long as it is the same.

        A rate or a time of day that a rule sets was looked at when the reading was taken.
        """
        place = (segment, channel)
        known = self._sendable.get(place)
        if known is None:
            decision = self._ask(segment, channel)
            known = self._sendable[place] = decision.allowed or decision.reason in _OF_THE_MOMENT
        return known

    def policy_changed(self) -> None:
        """Ask anew."""
        self._sendable.clear()

    def _ask(self, segment: str, channel: str) -> Decision:
        place = (segment, channel)
        resource = self._resources.get(place)
        if resource is None:
            resource = Resource(ResourceKind.SEGMENT, channel, segment)
            if len(self._resources) < _MAX_CHANNELS:
                self._resources[place] = resource
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        decision = self._decide(self._subject, Action.SUBSCRIBE, resource, now_ns, utc_ns)
        if not decision.allowed:
            self._metrics.add("qedge_onward_denied_total", (decision.reason.value,))
            self._denied(self._subject, Action.SUBSCRIBE, resource, decision)
        return decision
