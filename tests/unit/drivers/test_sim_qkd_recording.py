"""Recordings of a QKD link, and the pace at which blocks come."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import numpy as np
import pytest

from qedge_driver_api import (
    DetectionBlock,
    DriverContext,
    FatalError,
    OperatingState,
    QkdRole,
    RetriableError,
    settings_from_mapping,
)
from qedge_drivers.sim_qkd import SimQkd
from qedge_drivers.sim_qkd.__main__ import main
from qedge_drivers.sim_qkd.pacing import Pacer
from qedge_drivers.sim_qkd.recording import Recording, record
from qedge_drivers.sim_qkd.settings import SimQkdSettings


def opened(folder: Path, role: str, **values: object) -> SimQkd:
    driver = SimQkd(settings_from_mapping(SimQkdSettings, {"role": role, "seed": 3, **values}))
    state_dir = folder / role
    state_dir.mkdir(exist_ok=True)
    driver.open(DriverContext(role, str(state_dir), random.Random(f"{role} {values}").randbytes, lambda: False))
    return driver


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("recording")
    alice, bob = opened(folder, "alice"), opened(folder, "bob", block_detections=2000)
    try:
        return record(alice, bob, 3, folder, clock_hz=1e9)
    finally:
        alice.close()
        bob.close()


def next_block(bob: SimQkd) -> DetectionBlock:
    block = bob.read_block(10.0)
    assert block is not None
    return block


def test_a_recording_plays_through_both_drivers_as_it_was(tmp_path: Path, files: tuple[Path, Path]) -> None:
    alice, bob = (opened(tmp_path, role, replay=str(file)) for role, file in zip(("alice", "bob"), files, strict=True))
    original = list(Recording.read(str(files[1]), QkdRole.BOB).blocks())
    sifted = errors = 0
    for block in original:
        played = next_block(bob)
        assert (played.first_slot, played.num_slots) == (block.first_slot, block.num_slots)
        assert played.bits == block.bits.tobytes()
        assert played.double_clicks == block.double_clicks
        made = alice.preparations(played.slots)
        same = np.frombuffer(made.bases, np.uint8) == np.frombuffer(played.bases, np.uint8)
        wrong = np.frombuffer(made.bits, np.uint8) != np.frombuffer(played.bits, np.uint8)
        sifted, errors = sifted + int(same.sum()), errors + int((same & wrong).sum())
        alice.release(played.first_slot + played.num_slots)
    assert errors < 0.03 * sifted
    assert bob.health().state is alice.health().state is OperatingState.UP
    assert bob.read_block(0.0) is None
    assert bob.health().state is OperatingState.DEGRADED
    with pytest.raises(RetriableError):
        alice.preparations(np.array([original[0].first_slot], "<u8").tobytes())
    alice.close()
    bob.close()


def test_long_recorded_blocks_are_handed_on_in_short_ones(tmp_path: Path, files: tuple[Path, Path]) -> None:
    bob = opened(tmp_path, "bob", replay=str(files[1]), block_detections=500)
    whole = next(Recording.read(str(files[1]), QkdRole.BOB).blocks())
    parts = [next_block(bob) for _ in range(-(-len(whole.bits) // 500))]
    assert b"".join(part.bits for part in parts) == whole.bits.tobytes()
    assert sum(part.num_slots for part in parts) == whole.num_slots
    assert all(len(part.bits) <= 500 for part in parts)
    bob.close()


def test_a_recording_does_not_know_slots_without_a_detection(tmp_path: Path, files: tuple[Path, Path]) -> None:
    alice = opened(tmp_path, "alice", replay=str(files[0]))
    block = next(Recording.read(str(files[0]), QkdRole.ALICE).blocks())
    unknown = min(set(range(100)) - set(block.offsets.tolist())) + block.first_slot
    with pytest.raises(FatalError):
        alice.preparations(np.array([unknown], "<u8").tobytes())
    alice.close()


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array("other")},
        {"role": np.array("alice")},
        {"bits": None},
        {"bits": np.full(6000, 2, np.uint8)},
        {"bases": np.zeros(5, np.uint8)},
        {"counts": np.array([1, 1, 1], "<u8")},
        {"slots": np.zeros(6000, "<u8")},
        {"slots": np.zeros(6000, "<i8") - 1},
        {"num_slots": np.array([1, 1, 1], "<u8")},
        {"clock_hz": np.array(0.0)},
    ],
)
def test_what_is_no_recording_of_this_end_is_refused(
    tmp_path: Path, files: tuple[Path, Path], change: dict[str, np.ndarray[tuple[int], np.dtype[np.uint8]] | None]
) -> None:
    with np.load(files[1]) as held:
        arrays = {name: held[name] for name in held.files} | change
    bad = tmp_path / "bad.npz"
    np.savez(bad, **{name: values for name, values in arrays.items() if values is not None})  # type: ignore[arg-type] # by name
    for path in (bad, tmp_path / "none.npz", files[0]):
        with pytest.raises(FatalError, match="is no recording of this end"):
            Recording.read(str(path), QkdRole.BOB)
    noise = tmp_path / "noise.npz"
    noise.write_bytes(b"PK\3\4 but not really")
    with pytest.raises(FatalError):
        Recording.read(str(noise), QkdRole.BOB)


def test_blocks_come_no_faster_than_pulses_would() -> None:
    pacer = Pacer()
    assert pacer.due_s(100.0, 0.5) == 100.5
    assert pacer.due_s(100.6, 0.5) == 101.0  # asked for late, but the light was on its way
    assert pacer.due_s(150.0, 0.5) == 150.4  # what came long before anybody looked is gone
    assert pacer.clock_share == -1.0
    pacer.handed_over(100.0, 100.5, 0.5)
    assert pacer.clock_share == 1.0
    pacer.handed_over(100.6, 102.1, 0.5)  # computed more slowly than the clock runs
    assert pacer.clock_share == 0.5


def test_a_paced_link_keeps_to_the_clock(tmp_path: Path) -> None:
    alice = opened(tmp_path, "alice", clock_hz=1e7)
    bob = opened(tmp_path, "bob", block_detections=1000)
    started = time.monotonic()
    slots = sum(next_block(bob).num_slots for _ in range(3))
    assert time.monotonic() - started >= slots / 1e7 - 0.1
    assert 0.0 < float(str(bob.properties()["clock_share"])) <= 1.0
    alice.close()
    bob.close()


def test_a_block_that_is_not_due_yet_is_kept_for_the_next_call(tmp_path: Path) -> None:
    alice, bob = opened(tmp_path, "alice", clock_hz=1e6), opened(tmp_path, "bob", block_detections=1000)
    assert bob.read_block(0.01) is None
    first = next_block(bob)
    second = next_block(bob)
    assert first.first_slot + first.num_slots == second.first_slot
    alice.close()
    bob.close()


def test_the_longest_blocks_are_fetched_ahead_and_kept_below_the_limit_of_the_receiver(tmp_path: Path) -> None:
    alice = opened(tmp_path, "alice", preset="plan")
    bob = opened(tmp_path, "bob", preset="plan", block_detections=1 << 17, realtime=False)
    blocks = [next_block(bob) for _ in range(8)]
    for before, after in itertools.pairwise(blocks):
        assert before.first_slot + before.num_slots == after.first_slot
    assert 0.9 * (1 << 17) < len(blocks[-1].bits) <= 1 << 17
    rate_hz = len(blocks[-1].bits) / blocks[-1].num_slots * 1e9
    assert rate_hz == pytest.approx(40e6, rel=0.03)
    facts = bob.properties()
    assert float(str(facts["count_rate_hz"])) > 40e6
    assert 0.5 < float(str(facts["duty"])) < 1.0
    assert bob.health().state is OperatingState.UP
    alice.close()  # while light is on its way
    with pytest.raises(RetriableError):
        list(iter(lambda: bob.read_block(5.0), ()))
    bob.close()


def test_light_that_was_fetched_ahead_from_an_end_that_is_gone_is_not_measured(tmp_path: Path) -> None:
    alice = opened(tmp_path, "alice", preset="plan")
    bob = opened(tmp_path, "bob", preset="plan", block_detections=1 << 17, realtime=False)
    old = next_block(bob)
    alice.close()
    alice = opened(tmp_path, "alice", preset="plan", seed=4)
    new = next_block(bob)
    assert new.first_slot != old.first_slot + old.num_slots
    assert len(alice.preparations(new.slots).bits) == len(new.bits)
    alice.close()
    bob.close()


def test_a_link_is_recorded_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "preset=plan", "--blocks", "1", "block_detections=500", "realtime=false"]) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == ["alice.npz", "bob.npz"]
    assert next(Recording.read(paths[0], QkdRole.ALICE).blocks()).intensities.max() <= 2
    assert main([str(tmp_path), "preset=none"]) == 1
    assert "expected one of" in capsys.readouterr().err
