"""The examples for makers of devices do what they say, over a connection that ends in a node of this process."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qedge.wire.attached import unpack_reading
from qedge.wire.gateway import DeviceAdd
from qedge_device.messages import Refusal, Refused
from tests.unit.devices.device_site import Site, site

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "devices"


class FakeLink:
    """A `Link` whose other end is a node in another thread; loses its connection once."""

    def __init__(self, here: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.client_id = "example"
        self.readings: list[bytes] = []
        self.connected: list[str] = []
        self._here = here
        self._loop = loop
        self._inbox: list[tuple[str, bytes]] = []
        self._breaks_at = 3

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(20)

    def connect(self, username: str, password: str, topics: list[str]) -> None:
        """Prove who it is."""
        subject = self._ask(self._here.devices.doorman.check(self.client_id, username, password.encode()))
        if subject is None:
            raise AssertionError("not let in")
        self.connected.append(username)

    def send(self, topic: str, payload: bytes) -> None:
        """Say hello or send a reading."""
        name, leaf = topic.split("/")[5:]
        if leaf == "hello":
            self._here.clock.advance_s(0.01)
            answer = self._ask(self._here.devices.greeter.greet(name, payload))
            self._inbox.append((topic.replace("hello", "welcome"), answer))
            return
        if len(self.readings) + 1 == self._breaks_at:
            self._breaks_at = 0
            self._loop.call_soon_threadsafe(self._here.devices.sessions.close, name)  # the node has started anew
            stale = topic.replace("up", "welcome"), Refused(Refusal.START_ANEW).pack()
            self._inbox.append(stale)  # it was under way, and is no answer to the hello that follows
            raise OSError("gone")
        self.readings.append(self._here.up(name, payload))
        session = self._here.devices.sessions.current(name)
        assert session is not None
        self._inbox.append((session.down_topic, session.sealer.seal(b"\x03ledon", session.down_topic)))

    def receive(self, seconds: float) -> tuple[str, bytes] | None:
        """Return what came."""
        return self._inbox.pop(0) if self._inbox else None

    def close(self) -> None:
        """End."""


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load an example as a module, with a `link` beside it."""
    monkeypatch.setitem(sys.modules, "link", ModuleType("link"))
    sys.modules["link"].Link = FakeLink  # type: ignore[attr-defined]  # stands for the real one
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["rich", "constrained"])
async def test_an_example_enrols_sends_obeys_and_comes_back(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(name, monkeypatch)
    async with site(tmp_path) as here:
        tier = "constrained" if name == "constrained" else "rich"
        line = (await here.devices.desk.add(DeviceAdd("meter-1", tier=tier))).line
        kind = module.RichDevice if name == "rich" else module.ConstrainedDevice
        device = kind.from_invitation(line, random_bytes=here.world.random_bytes)
        link = FakeLink(here, asyncio.get_running_loop())
        file = tmp_path / "state.json"
        await asyncio.to_thread(module.run, device, link, file, 4, 0.0)
        assert [unpack_reading(each) for each in link.readings] == [("temperature", b"21.5")] * 4
        assert link.connected[-1] == "meter-1"
        assert "command led: on" in capsys.readouterr().out
        again = kind.load(file.read_bytes(), random_bytes=here.world.random_bytes)
        await asyncio.to_thread(module.run, again, link, file, 1, 0.0)
        assert len(link.readings) == 5
