"""Rules of staged configuration: what may follow what. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.configuration.model import (
    CHANGE_STEPS,
    MAX_UNDO,
    Baseline,
    ChangeEvent,
    ConfigurationBook,
    ConfigurationChange,
    ConfigurationLayer,
)
from qedge.wire.configuration import ConfigurationOutcome, ConfigurationStep

_MAX_REASON: Final = 1000


@dataclass(frozen=True, slots=True)
class Trial:
    """Under what terms a change is tried, as in `ConfigurationChange`."""

    command: str
    baseline: Baseline
    limit_s: float
    hold_s: float
    max_starts: int
    began_utc_ns: int


def stage(book: ConfigurationBook, layer: ConfigurationLayer) -> ConfigurationBook:
    """Keep a layer that has no faults; the one staged before is forgotten.

    Raises `configuration.stale` for a serial that is not higher than every one before. The same text under the same
    serial is no new layer but the same one said again.
    """
    if book.staged == layer:
        return book
    if layer.serial <= book.highest:
        raise QedgeError(
            "configuration.stale",
            f"Serial {layer.serial} is not higher than {book.highest}, which this node knows already.",
            fix="Stage the layer again under a higher serial.",
            highest=book.highest,
        )
    return msgspec.structs.replace(book, highest=layer.serial, staged=layer)


def begin(book: ConfigurationBook, serial: int, sha256: str, trial: Trial) -> ConfigurationBook:
    """Begin to put the staged layer into force.

    Raises `configuration.busy` while another change is under way, `configuration.stale` for a serial that is over,
    `configuration.not_staged` for one that is not the staged one.
    """
    _check_idle(book)
    staged = book.staged
    if staged is None or staged.serial != serial:
        if serial <= book.highest and (staged is None or serial < staged.serial):
            raise QedgeError(
                "configuration.stale",
                f"Serial {serial} is over: it was tried, or a later one was staged.",
                fix="Stage the layer again under a higher serial.",
                highest=book.highest,
            )
        raise QedgeError(
            "configuration.not_staged", f"No layer of serial {serial} is staged.", fix="Stage it first.", serial=serial
        )
    if sha256 and not hmac.compare_digest(sha256, staged.sha256):
        raise QedgeError(
            "configuration.not_staged",
            f"The staged layer of serial {serial} has another digest than the one to apply.",
            fix="Stage the layer that was meant, under a higher serial.",
        )
    return _begun(book, staged, serial, trial)


def begin_rollback(book: ConfigurationBook, serial: int, trial: Trial) -> ConfigurationBook:
    """Begin to put back the layer before the one in force, whose serial is `serial`.

    Raises `configuration.busy`, and `configuration.nothing_to_undo` where that serial is not in force or nothing before
    it is known.
    """
    _check_idle(book)
    if book.in_force is None or book.in_force.serial != serial or not book.undo:
        in_force = book.in_force.serial if book.in_force is not None else 0
        raise QedgeError(
            "configuration.nothing_to_undo",
            f"Serial {serial} cannot be rolled back: {in_force} is in force"
            + (", and nothing before it is known." if in_force == serial else "."),
            fix="Ask the node for its configuration, or stage the layer that is wanted under a higher serial.",
            in_force=in_force,
        )
    return _begun(book, book.undo[0], serial, trial, rollback=True)


def written(book: ConfigurationBook) -> ConfigurationBook:
    """The file of the layer is on the disk: the trial begins."""
    return _moved(book, ChangeEvent.WRITTEN)


def started(book: ConfigurationBook) -> ConfigurationBook:
    """The daemon starts while a change is under way; after too many starts the change is undone."""
    change = book.change
    if change is None or change.step is ConfigurationStep.RESTORING:
        return book
    change = msgspec.structs.replace(change, starts=change.starts + 1)
    book = msgspec.structs.replace(book, change=change)
    if change.starts > change.max_starts:
        return unwell(
            book,
            "configuration.no_start",
            f"The daemon was started {change.max_starts} times with this configuration and never became well.",
        )
    return book


def unwell(book: ConfigurationBook, code: str, reason: str) -> ConfigurationBook:
    """The node is not well with the new configuration: the one before is put back."""
    book = _moved(book, ChangeEvent.UNWELL)
    change = _change(book)
    return msgspec.structs.replace(book, change=msgspec.structs.replace(change, code=code, reason=reason[:_MAX_REASON]))


def well(book: ConfigurationBook, sections: Mapping[str, str], settings_sha256: str, utc_ns: int) -> ConfigurationBook:
    """The node is well: the new configuration is in force, and `sections` are digests of its effective settings."""
    change = _change(_moved(book, ChangeEvent.WELL))
    undo = book.undo[1:] if change.rollback else (change.before, *book.undo)[:MAX_UNDO]
    staged = None if book.staged == change.target else book.staged
    return msgspec.structs.replace(
        book,
        staged=staged,
        in_force=change.target,
        undo=undo,
        change=None,
        last=_outcome(change, change.target, settings_sha256, utc_ns),
        sections=dict(sections),
    )


def restored(book: ConfigurationBook, utc_ns: int) -> ConfigurationBook:
    """The layer before is on the disk again: the change is over, and its serial with it."""
    change = _change(_moved(book, ChangeEvent.RESTORED))
    staged = None if book.staged == change.target else book.staged
    outcome = _outcome(change, change.before, "", utc_ns)
    return msgspec.structs.replace(book, staged=staged, change=None, last=outcome)


def _begun(
    book: ConfigurationBook, target: ConfigurationLayer | None, asked: int, trial: Trial, *, rollback: bool = False
) -> ConfigurationBook:
    change = ConfigurationChange(
        target=target,
        before=book.in_force,
        asked=asked,
        rollback=rollback,
        command=trial.command,
        baseline=trial.baseline,
        limit_s=trial.limit_s,
        hold_s=trial.hold_s,
        max_starts=trial.max_starts,
        began_utc_ns=trial.began_utc_ns,
    )
    return msgspec.structs.replace(book, change=change)


def _check_idle(book: ConfigurationBook) -> None:
    if book.change is not None:
        raise QedgeError(
            "configuration.busy",
            f"The configuration is being changed already (serial {book.change.asked}, {book.change.step}).",
            fix="Wait until that change is over.",
        )


def _change(book: ConfigurationBook) -> ConfigurationChange:
    if book.change is None:
        raise ValueError("no change of the configuration is under way")
    return book.change


def _moved(book: ConfigurationBook, event: ChangeEvent) -> ConfigurationBook:
    change = _change(book)
    step = CHANGE_STEPS.next(change.step, event)
    return msgspec.structs.replace(book, change=msgspec.structs.replace(change, step=step))


def _outcome(
    change: ConfigurationChange, layer: ConfigurationLayer | None, settings_sha256: str, utc_ns: int
) -> ConfigurationOutcome:
    return ConfigurationOutcome(
        asked=change.asked,
        serial=layer.serial if layer is not None else 0,
        sha256=layer.sha256 if layer is not None else "",
        state=change.step.value,
        settings_sha256=settings_sha256,
        code=change.code,
        reason=change.reason,
        command=change.command,
        starts=change.starts,
        began_utc_ns=change.began_utc_ns,
        ended_utc_ns=utc_ns,
    )
