"""Both ends of a link are killed at random instants under load; no key is ever given twice, lost or unequal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from qedge.qkd.keys.model import StoredStatus

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


class End:
    """One end as a process."""

    def __init__(self, node: str, peer: str, folder: Path) -> None:
        self.node = node
        self.peer = peer
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, quiet: bool = False) -> None:
        """Start it again."""
        (self.folder / f"{self.node}.up").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.key_store_process",
                self.node,
                self.peer,
                str(self.folder),
                "1" if quiet else "0",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    async def wait_up(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(30):
            while not (self.folder / f"{self.node}.up").exists():
                assert self.process is not None
                assert self.process.poll() is None
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def had(self, role: str) -> list[tuple[str, str]]:
        """Return the keys that its master or its slave had."""
        path = self.folder / f"{self.node}.{role}"
        lines = path.read_text("ascii").splitlines() if path.exists() else []
        return [(line.split()[0], line.split()[1]) for line in lines]

    def account(self) -> StoredStatus | None:
        """Return where the bits are, as a quiet end last said."""
        with contextlib.suppress(OSError):
            return msgspec.json.decode((self.folder / f"{self.node}.account").read_bytes(), type=StoredStatus)
        return None


@pytest.mark.parametrize(
    ("seed", "kills"),
    [
        pytest.param(1, 6, id="short"),
        pytest.param(2, 200, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_no_key_is_given_twice_lost_or_unequal_whichever_end_is_killed(
    tmp_path: Path, seed: int, kills: int
) -> None:
    ends = [End("a", "b", tmp_path), End("b", "a", tmp_path)]
    dice = random.Random(seed)
    try:
        for end in ends:
            end.start()
        for _ in range(kills):
            struck = dice.sample(ends, dice.choice((1, 1, 2)))
            for end in ends:
                await end.wait_up()
            await asyncio.sleep(dice.uniform(0.0, 0.3))
            for end in struck:
                end.kill()
            for end in struck:
                end.start()
        for end in ends:
            await end.wait_up()
        await asyncio.sleep(0.3)
        for end in ends:
            end.kill()
        for end in ends:
            end.start(quiet=True)
        await _settled(ends, tmp_path)
    finally:
        for end in ends:
            end.kill()
    given = 0
    for one, other in ((ends[0], ends[1]), (ends[1], ends[0])):
        masters, slaves = one.had("master"), other.had("slave")
        given += len(masters)
        assert len({key_id for key_id, _ in masters}) == len(masters)
        assert len({key for _, key in masters}) == len(masters)
        assert len({key_id for key_id, _ in slaves}) == len(slaves), "a slave had a key twice"
        assert set(slaves) <= set(masters)
        # A slave loses what was under way to it when it was killed; nothing else may be missing.
        assert len(masters) - len(slaves) <= 30 * (kills + 1)
    every = [key for end in ends for _, key in end.had("master")]
    assert len(set(every)) == len(every)
    assert given > 4 * kills


async def _settled(ends: list[End], folder: Path) -> None:
    """Wait until both ends say the same of every bit, and no slave finds a further key."""
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.1)
            said = [end.account() for end in ends]
            if None in said or not all((folder / f"{end.node}.fetched").exists() for end in ends):
                continue
            one, other = (status.account for status in said if status is not None)
            assert one.balanced
            assert other.balanced
            # Bits that one end gave up the other may know as those of a block that it alone still had.
            if (one.own, one.theirs, one.in_flight, one.delivered, one.voided + one.discarded) == (
                other.theirs,
                other.own,
                other.in_flight,
                other.delivered,
                other.voided + other.discarded,
            ) and one.waiting * other.waiting == 0:
                return
