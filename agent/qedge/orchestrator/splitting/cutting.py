"""Where a job can be cut: shots, points of a sweep, observables, tiles of a kernel matrix. Pure."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.jobs import JobSubmission
from qedge.wire.tasks import ExpectationTask, KernelTask, QecTask, SampleTask


@dataclass(frozen=True, slots=True)
class Part:
    """One piece: what to submit, and where its values belong.

    `row` and `column` are the first entry of a tile in the kernel matrix; `mirrored` tiles fill the other side of a
    symmetric one too. For pieces of other kinds the order of the parts is the order of their values.
    """

    submission: JobSubmission
    row: int = 0
    column: int = 0
    mirrored: bool = False


def cut(submission: JobSubmission, seed: int) -> tuple[Part, ...]:
    """Cut a job into at most `submission.parts` pieces, each with a seed of its own; the same again gives the same.

    Raises `job.cannot_split` for kinds of tasks that are one piece by nature.
    """
    task = submission.task
    whole = msgspec.structs.replace(submission, parts=0, client_key="", dry_run=False)
    if isinstance(task, KernelTask):
        parts = _tiles(whole, task, submission.parts)
    elif isinstance(task, (SampleTask, ExpectationTask)) and _points(task) > 1:
        parts = [_points_of(whole, task, start, stop) for start, stop in _ranges(_points(task), submission.parts)]
    elif isinstance(task, ExpectationTask) and not task.sampled:
        parts = [_observables_of(whole, task, *each) for each in _ranges(len(task.observables), submission.parts)]
    elif task is None or isinstance(task, (SampleTask, ExpectationTask, QecTask)):
        ranges = _ranges(submission.shots, submission.parts)
        parts = [Part(msgspec.structs.replace(whole, shots=stop - start)) for start, stop in ranges]
    else:
        raise QedgeError(
            "job.cannot_split",
            f"A job of the kind {task.__struct_config__.tag} is one piece.",
            fix="Submit it without parts; the kinds sample, expectation, kernel and qec can be cut.",
        )
    return tuple(_seeded(part, part_seed(seed, index)) for index, part in enumerate(parts))


def part_seed(seed: int, index: int) -> int:
    """Return the seed of part `index`: the first 32 bits of SHA-256 over both, so that parts differ."""
    words = seed.to_bytes(4, "big") + index.to_bytes(4, "big")
    return int.from_bytes(hashlib.sha256(b"qedge part" + words).digest()[:4], "big")


def _seeded(part: Part, seed: int) -> Part:
    bare = msgspec.structs.replace(part.submission, seed=seed)
    return Part(bare, part.row, part.column, part.mirrored)


def _ranges(total: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 … total−1 into at most `parts` ranges of nearly equal size, none of them empty."""
    number = max(1, min(parts, total))
    borders = [total * index // number for index in range(number + 1)]
    return list(itertools.pairwise(borders))


def _points(task: SampleTask | ExpectationTask) -> int:
    """Count the points of a sweep; columns of different lengths are the engine's to refuse, so one piece."""
    sizes = {len(column) for column in task.sweep.values()}
    return sizes.pop() if len(sizes) == 1 else 1


def _points_of(whole: JobSubmission, task: SampleTask | ExpectationTask, start: int, stop: int) -> Part:
    sweep = {name: column[start:stop] for name, column in task.sweep.items()}
    if isinstance(task, SampleTask):
        # the shots one by one are those of the first point
        some: SampleTask | ExpectationTask = msgspec.structs.replace(
            task, sweep=sweep, memory=task.memory and not start
        )
    else:
        some = msgspec.structs.replace(task, sweep=sweep)
    return Part(msgspec.structs.replace(whole, task=some))


def _observables_of(whole: JobSubmission, task: ExpectationTask, start: int, stop: int) -> Part:
    some = msgspec.structs.replace(task, observables=task.observables[start:stop])
    return Part(msgspec.structs.replace(whole, task=some))


def _tiles(whole: JobSubmission, task: KernelTask, parts: int) -> list[Part]:
    """Cut the matrix into tiles that are as square as can be, since a tile prepares the states of its edges.

    Of a symmetric matrix (no `columns`) the tiles on one side of the diagonal are enough.
    """
    if not task.columns:
        side = 1
        while (side + 1) * (side + 2) // 2 <= parts and side < len(task.rows):
            side += 1
        edges = _ranges(len(task.rows), side)
        return [
            _tile(whole, task, rows, columns) for rows, columns in itertools.combinations_with_replacement(edges, 2)
        ]
    across, down = _grid(len(task.columns), len(task.rows), parts)
    return [
        _tile(whole, task, rows, columns)
        for rows, columns in itertools.product(_ranges(len(task.rows), down), _ranges(len(task.columns), across))
    ]


def _grid(width: int, height: int, parts: int) -> tuple[int, int]:
    """Return how many tiles lie side by side and one above the other: at most `parts` with the shortest edges."""

    def candidates() -> Iterator[tuple[float, int, int]]:
        for down in range(1, min(height, parts) + 1):
            across = min(width, parts // down)
            yield width / across + height / down, across, down

    _, across, down = min(candidates())
    return across, down


def _tile(whole: JobSubmission, task: KernelTask, rows: tuple[int, int], columns: tuple[int, int]) -> Part:
    one = slice(*rows)
    if not task.columns and rows == columns:
        some = msgspec.structs.replace(task, rows=task.rows[one])
    else:
        some = msgspec.structs.replace(task, rows=task.rows[one], columns=(task.columns or task.rows)[slice(*columns)])
    return Part(
        msgspec.structs.replace(whole, task=some), rows[0], columns[0], mirrored=not task.columns and rows != columns
    )
