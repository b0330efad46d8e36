"""What an adapter keeps retained at a broker: published only where it differs from what is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping


class RetainedBook:
    """What should stand on topics, and what is known to stand there.

    To send everything again at each start would make every reader of the tool take it all in anew; to send nothing
    would leave what an earlier run has left.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, bytes] = {}
        self._seen: dict[str, bytes] = {}

    @property
    def seen(self) -> Mapping[str, bytes]:
        """What stands at the broker, as far as it is known."""
        return self._seen

    def want(self, topic: str, payload: bytes) -> None:
        """Let a payload stand on a topic; empty: nothing."""
        if payload:
            self._wanted[topic] = payload
        else:
            self._wanted.pop(topic, None)

    def forget_seen(self) -> None:
        """Know nothing of the broker: another connection begins."""
        self._seen.clear()

    def note(self, topic: str, payload: bytes) -> None:
        """Learn what stands on a topic."""
        if payload:
            self._seen[topic] = payload
        else:
            self._seen.pop(topic, None)

    def changes(self) -> tuple[tuple[str, bytes], ...]:
        """Return what has to be published; an empty payload takes away what should not stand any more."""
        stale = tuple((topic, b"") for topic in self._seen if topic not in self._wanted)
        return stale + tuple((topic, body) for topic, body in self._wanted.items() if self._seen.get(topic) != body)
