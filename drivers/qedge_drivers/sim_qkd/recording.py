"""Recorded detections: one file for each end, which the drivers play in place of a simulation.

A file is an uncompressed or compressed numpy archive (`.npz`) with these arrays, little-endian:

* `format`: the text `qedge-qkd-recording-1`; `role`: the text `alice` or `bob`; `clock_hz`: f64, pulses per second.
* `first_slots`, `num_slots`, `counts`: u64, one entry per block: where it begins, its slots, its detections.
* `double_clicks`: u64 per block (Bob).
* `slots`: u64, `bases`: u8 (0 Z, 1 X), `bits`: u8; one entry per detection, in the order of the blocks.
* `intensities`: u8 per detection, index into the mean photon numbers, largest first (Alice).

Both files of a link have the same blocks and slots; Alice's says what she prepared where Bob detected something.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge_driver_api import DetectionBlock, FatalError, Preparations, QkdRole, QkdTransceiver
from qedge_drivers.sim_qkd.physics import Bytes

FORMAT: Final = "qedge-qkd-recording-1"
_MAX_DETECTIONS: Final = 1 << 27
_NOT_ONE: Final = "is no recording of this end"


@dataclass(frozen=True)
class RecordedBlock:
    """One block; `offsets` count from its first slot. `intensities` are zeros at Bob's end."""

    first_slot: int
    num_slots: int
    offsets: NDArray[np.uint32]
    bases: Bytes
    bits: Bytes
    intensities: Bytes
    double_clicks: int


@dataclass(frozen=True)
class Recording:
    """One end's file."""

    role: QkdRole
    clock_hz: float
    arrays: dict[str, NDArray[np.uint64]]
    bytes_: dict[str, Bytes]

    @classmethod
    def read(cls, path: str, role: QkdRole) -> Recording:
        """Read and check a file; raises `FatalError`."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                held = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FatalError(f"{path} {_NOT_ONE}: {error}") from error
        try:
            sane = str(held["format"]) == FORMAT and str(held["role"]) == role
            clock_hz = float(held["clock_hz"])
            names = ("first_slots", "num_slots", "counts", "slots")
            arrays = {name: held[name].astype(np.uint64, casting="safe") for name in names}
            arrays["double_clicks"] = held.get("double_clicks", np.zeros(len(arrays["counts"]), np.uint64))
            bytes_ = {name: held[name].astype(np.uint8, casting="safe") for name in ("bases", "bits")}
            number = len(arrays["slots"])
            bytes_["intensities"] = held.get("intensities", np.zeros(number, np.uint8)).astype(np.uint8, casting="safe")
        except (KeyError, TypeError, ValueError) as error:
            raise FatalError(f"{path} {_NOT_ONE}: {error}") from error
        blocks = {len(arrays[name]) for name in ("first_slots", "num_slots", "counts", "double_clicks")}
        rows = {len(each) for each in bytes_.values()} | {number, int(arrays["counts"].sum())}
        binary = all(not np.any(bytes_[name] > 1) for name in ("bases", "bits")) and not np.any(
            bytes_["intensities"] > 7
        )
        if not sane or len(blocks) != 1 or len(rows) != 1 or not binary or number > _MAX_DETECTIONS or not clock_hz > 0:
            raise FatalError(f"{path} {_NOT_ONE}.")
        made = cls(role, clock_hz, arrays, bytes_)
        made._check_slots(path)
        return made

    def _check_slots(self, path: str) -> None:
        end = 0
        for block in self.blocks():
            last = int(block.offsets[-1]) if len(block.offsets) else 0
            if (
                block.first_slot < end
                or np.any(np.diff(block.offsets.astype(np.int64)) <= 0)
                or last >= block.num_slots
            ):
                raise FatalError(f"{path} {_NOT_ONE}: slots do not increase within their blocks.")
            end = block.first_slot + block.num_slots
        if end >= 2**63:
            raise FatalError(f"{path} {_NOT_ONE}: slot numbers are too large.")

    def blocks(self) -> Iterator[RecordedBlock]:
        """Go through the blocks in order of time."""
        begin = 0
        names = ("first_slots", "num_slots", "counts", "double_clicks")
        for first, slots, count, doubles in zip(*(self.arrays[name].tolist() for name in names), strict=True):
            part = slice(begin, begin + count)
            begin += count
            offsets = (self.arrays["slots"][part] - np.uint64(first)).clip(0, 2**32 - 1).astype(np.uint32)
            bases, bits, intensities = (self.bytes_[name][part] for name in ("bases", "bits", "intensities"))
            yield RecordedBlock(first, slots, offsets, bases, bits, intensities, doubles)


def write(
    path: Path, role: QkdRole, clock_hz: float, blocks: Sequence[DetectionBlock], made: Sequence[Preparations] = ()
) -> None:
    """Write one end's file: what Bob detected, or with `made` what Alice prepared in his slots."""
    ends = made if role == QkdRole.ALICE else blocks
    arrays = {
        "first_slots": np.array([block.first_slot for block in blocks], "<u8"),
        "num_slots": np.array([block.num_slots for block in blocks], "<u8"),
        "counts": np.array([len(block.bits) for block in blocks], "<u8"),
        "slots": np.frombuffer(b"".join(block.slots for block in blocks), "<u8"),
        "bases": np.frombuffer(b"".join(end.bases for end in ends), np.uint8),
        "bits": np.frombuffer(b"".join(end.bits for end in ends), np.uint8),
    }
    if role == QkdRole.ALICE:
        arrays["intensities"] = np.frombuffer(b"".join(each.intensities for each in made), np.uint8)
    else:
        arrays["double_clicks"] = np.array([block.double_clicks for block in blocks], "<u8")
    arrays |= {"format": np.array(FORMAT), "role": np.array(str(role)), "clock_hz": np.array(clock_hz, "<f8")}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def record(
    alice: QkdTransceiver,
    bob: QkdTransceiver,
    num_blocks: int,
    folder: Path,
    *,
    clock_hz: float,
    timeout_s: float = 10.0,
) -> tuple[Path, Path]:
    """Record blocks of an open link, real or simulated; return the files, `alice.npz` and `bob.npz`."""
    blocks: list[DetectionBlock] = []
    made: list[Preparations] = []
    while len(blocks) < num_blocks:
        block = bob.read_block(timeout_s)
        if block is None:
            raise FatalError(f"No light came within {timeout_s:g} s.")
        blocks.append(block)
        made.append(alice.preparations(block.slots))
        alice.release(block.first_slot + block.num_slots)
    paths = folder / "alice.npz", folder / "bob.npz"
    write(paths[0], QkdRole.ALICE, clock_hz, blocks, made)
    write(paths[1], QkdRole.BOB, clock_hz, blocks)
    return paths
