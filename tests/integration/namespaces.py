"""Boxes of their own on one switch: network namespaces, each with a line that can be unplugged. Needs root."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType

import pytest


class Switch:
    """A bridge in the namespace of the tests; `host` is its address, where a broker can listen."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._mark = f"{os.getpid() % 100_000:x}"
        self._bridge = f"qb{self._mark}"
        net = f"10.213.{os.getpid() % 250}"
        self.host = f"{net}.1"
        self._addresses = {name: f"{net}.{at}/24" for at, name in enumerate(names, 2)}

    def __enter__(self) -> Switch:
        if os.geteuid() != 0:
            pytest.skip("network namespaces need root")
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.host}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for name in self._names:
                space, line = self._space(name), self._line(name)
                _ip("netns", "add", space)
                _ip("link", "add", line, "type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "set", line, "master", self._bridge, "up")
                for words in (
                    ("address", "add", self._addresses[name], "dev", "eth0"),
                    ("link", "set", "lo", "up"),
                    ("link", "set", "eth0", "up"),
                ):
                    _ip("-n", space, *words)
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__(None, None, None)
            said = getattr(error, "stderr", b"") or b""
            pytest.skip(f"this box does not let tests make network namespaces: {said.decode().strip() or error}")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True)
            subprocess.run(["ip", "link", "del", self._line(name)], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)

    def within(self, name: str) -> tuple[str, ...]:
        """Return what starts a command on a box."""
        return "ip", "netns", "exec", self._space(name)

    def unplug(self, *names: str) -> None:
        """Cut boxes off: from the broker and from each other."""
        for name in names:
            _ip("link", "set", self._line(name), "down")

    def plug(self, *names: str) -> None:
        """Connect them again."""
        for name in names:
            _ip("link", "set", self._line(name), "up")

    def _space(self, name: str) -> str:
        return f"q{self._mark}{name}"

    def _line(self, name: str) -> str:
        return f"qv{self._mark}{name}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
