"""Error models of decode streams: bounded before anything large is made, compiled once, kept by their hash; in workers.

A text of a few bytes can stand for 10^18 errors (`repeat`, large indices), so its size is counted by arithmetic first.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from qedge.base.errors import QedgeError
from qedge.engine.decoding.model import Limits
from qedge.engine.qec.model import BOUNDARY, ErrorModel, Memory, read_error_model, stim_library
from qedge.engine.qec.window import Pieces, memory_pieces
from qedge.wire.decode import DecodeOpen, MemoryModel, StimModel

_MAX_DEPTH: Final = 16
_TARGETS_PER_ERROR: Final = 8
_DEFAULT_WINDOW: Final = 10
_WARM_PIECES: Final = 64
_SAME: Final = 1e-9
"""Two chances that differ by less, relatively, are taken as equal."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model with its matchers; `detectors`, `closing` and `rounds` as in `DecodeOpened`.

    `ends_anywhere` says that a stream may also end before its windows repeat.
    """

    key: str
    pieces: Pieces
    detectors: tuple[int, ...]
    closing: int
    rounds: int
    ends_anywhere: bool

    @property
    def round_bytes(self) -> int:
        """Bytes that hold the detectors of any round."""
        return max(1, (max(*self.detectors, self.closing) + 7) // 8)

    def size(self, number: int) -> int:
        """Return how many detectors a round has that does not close the stream."""
        return self.detectors[min(number, len(self.detectors) - 1)]


class Models:
    """Compiled models, those used last."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[str, Compiled] = OrderedDict()

    def get(self, wanted: DecodeOpen) -> tuple[Compiled, bool]:
        """Return a compiled model and whether it was at hand; raises `decode.bad_model`, `.model_too_large`."""
        key = key_of(wanted)
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known, True
        made = self._kept[key] = compile_model(wanted, key, self._limits)
        while len(self._kept) > self._limits.keep_models:
            self._kept.popitem(last=False)
        return made, False


def key_of(wanted: DecodeOpen) -> str:
    """Return the hash of a model and of how it is decoded."""
    try:
        return hashlib.sha256(msgspec.msgpack.encode((wanted.model, wanted.window, wanted.commit))).hexdigest()
    except UnicodeEncodeError as error:
        raise _bad("its text is not valid Unicode") from error


def compile_model(wanted: DecodeOpen, key: str, limits: Limits) -> Compiled:
    """Make a model and the matchers that its first and its lasting windows need."""
    try:
        if isinstance(wanted.model, MemoryModel):
            made = _memory(wanted.model, wanted.window or 2 * wanted.model.distance, wanted.commit, key, limits)
        else:
            made = _stim(wanted.model, wanted.window, wanted.commit, key, limits)
        _warm(made)
    except (
        ValueError,
        IndexError,
        OverflowError,
    ) as error:  # of stim, numpy, the matcher
        raise _bad(str(error).strip()[:300]) from error
    return made


def _memory(model: MemoryModel, window: int, commit: int, key: str, limits: Limits) -> Compiled:
    if model.code == "surface" and model.distance % 2 == 0:
        raise _bad("the distance of a rotated surface code is odd here", fix="Use 3, 5, 7, ….")
    per_round = model.distance**2 - 1 if model.code == "surface" else model.distance - 1
    _check_size(detectors=per_round * (2 * window + 4), limits=limits)
    memory = Memory(model.code, model.distance, 1, model.basis, model.error_rate)
    pieces = memory_pieces(memory, window, commit or max(1, window // 2))
    sizes = _sizes(pieces)
    return Compiled(key, pieces, _trimmed(sizes[: pieces.steady + 1]), sizes[-1], 0, ends_anywhere=True)


def _stim(model: StimModel, window: int, commit: int, key: str, limits: Limits) -> Compiled:
    errors = read_error_model(_parsed(model.text, limits))
    if errors.num_rounds < 2:
        raise _bad("it has fewer than two rounds")
    _check_size(rounds=errors.num_rounds, limits=limits)
    window = window or min(_DEFAULT_WINDOW, errors.num_rounds)
    pieces = Pieces(errors, window, commit or max(1, window // 2), steady=model.repeats_from)
    if model.repeats_from:
        check_repeats(errors, model.repeats_from, window)
    sizes = _sizes(pieces)
    rounds = 0 if model.repeats_from else errors.num_rounds
    return Compiled(key, pieces, _trimmed(sizes[:-1]), sizes[-1], rounds, ends_anywhere=False)


def _parsed(text: str, limits: Limits) -> Any:  # a stim detector error model
    if len(text) > limits.max_model_bytes:
        raise _too_large(f"Its text has {len(text)} characters", limits.max_model_bytes)
    depth = deepest = 0
    for brace in re.findall(r"[{}]", re.sub(r"#[^\n]*", "", text)):
        depth += 1 if brace == "{" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise _too_large(f"Its repetitions are nested {deepest} deep", _MAX_DEPTH)
    dem = stim_library().DetectorErrorModel(text)
    found = _extent(dem)
    _check_size(
        detectors=found.detectors,
        mechanisms=max(found.instructions - found.detectors, found.targets // _TARGETS_PER_ERROR),
        limits=limits,
    )
    return dem.flattened()


@dataclass(slots=True)
class _Extent:
    """What a model is when its repetitions are written out."""

    instructions: int = 0
    targets: int = 0
    detectors: int = 0
    shift: int = 0


def _extent(dem: Any) -> _Extent:  # a stim detector error model
    whole = _Extent()
    for each in dem:
        if each.type == "repeat":
            body, times = _extent(each.body_copy()), int(each.repeat_count)
            whole.instructions += times * max(1, body.instructions)
            whole.targets += times * body.targets
            if body.detectors:
                whole.detectors = max(whole.detectors, whole.shift + (times - 1) * body.shift + body.detectors)
            whole.shift += times * body.shift
            continue
        targets = each.targets_copy()
        whole.instructions += 1
        if each.type == "shift_detectors":
            whole.shift += int(targets[0])
            continue
        whole.targets += len(targets)
        for target in targets:
            if target.is_relative_detector_id():
                whole.detectors = max(whole.detectors, whole.shift + int(target.val) + 1)
    return whole


def _check_size(*, limits: Limits, detectors: int = 0, mechanisms: int = 0, rounds: int = 0) -> None:
    for number, limit, name in (
        (detectors, limits.max_detectors, "detectors"),
        (mechanisms, limits.max_mechanisms, "errors"),
        (rounds, limits.max_detectors, "rounds"),
    ):
        if number > limit:
            raise _too_large(f"It has {number} {name}", limit)


def check_repeats(model: ErrorModel, steady: int, window: int) -> None:
    """Raise `decode.bad_model` where not every round from `steady` on, up to the last, looks like the next."""
    needed = steady + 2 * window + 3
    if model.num_rounds < needed:
        raise _bad(
            f"it has {model.num_rounds} rounds, and to repeat from round {steady} in windows of {window} it needs "
            f"{needed}",
            fix="Write more rounds, or make the window smaller.",
        )
    bounds = model.bounds()
    before: list[tuple[int, int, int, float]] | None = None
    until = model.num_rounds - 2
    for number in range(steady, model.num_rounds - 2):
        size = int(bounds[number + 1] - bounds[number])
        if size != int(bounds[steady + 1] - bounds[steady]):
            raise _bad(f"round {number} has {size} detectors, and round {steady} has another number")
        chosen = range(*(int(each) for each in np.searchsorted(model.first, (number, number + 1))))
        found = _seen_from(model, [each for each in chosen if model.last[each] <= until], int(bounds[number]))
        # of those of the round before, what one round later would reach beyond the last one is left out
        room = int(bounds[until] - bounds[number - 1])
        if before is not None and not _same([row for row in before if row[1] < room], found):
            raise _bad(f"the errors first seen in round {number} are not those of round {number - 1}")
        before = found


def _seen_from(model: ErrorModel, errors: Iterable[int], base: int) -> list[tuple[int, int, int, float]]:
    rows = []
    for error in errors:
        low, high = (int(each) for each in model.detectors[error])
        rows.append(
            (
                low - base,
                BOUNDARY if high == BOUNDARY else high - base,
                int(model.observables[error]),
                float(model.probability[error]),
            )
        )
    return sorted(rows)


def _same(one: list[tuple[int, int, int, float]], other: list[tuple[int, int, int, float]]) -> bool:
    return len(one) == len(other) and all(
        a[:3] == b[:3] and abs(a[3] - b[3]) <= _SAME * max(a[3], b[3]) for a, b in zip(one, other, strict=True)
    )


def _warm(made: Compiled) -> None:
    """Make the matchers that a long stream needs, so that no window waits for one."""
    pieces = made.pieces
    end = pieces.steady + pieces.commit if pieces.steady else max(0, made.rounds - pieces.window)
    for begin in range(0, end, pieces.commit)[:_WARM_PIECES]:
        pieces.middle(begin)
    if pieces.steady:
        for length in range(pieces.window + 2 - pieces.commit, pieces.window + 2)[:_WARM_PIECES]:
            pieces.final(pieces.steady, length)


def _sizes(pieces: Pieces) -> list[int]:
    return [pieces.sizes(number, number + 1) for number in range(pieces.model.num_rounds)]


def _trimmed(sizes: list[int]) -> tuple[int, ...]:
    """Leave out sizes at the end that are like the one before."""
    end = len(sizes)
    while end > 1 and sizes[end - 1] == sizes[end - 2]:
        end -= 1
    return tuple(sizes[:end])


def _bad(what: str, fix: str = "") -> QedgeError:
    return QedgeError("decode.bad_model", f"The error model cannot be decoded: {what}.", fix=fix)


def _too_large(what: str, limit: int) -> QedgeError:
    return QedgeError(
        "decode.model_too_large", f"The error model is too large. {what}; the limit is {limit}.", limit=limit
    )
