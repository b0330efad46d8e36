"""structlog set up once: JSON lines for journald, or a console for people; secrets are scrubbed on the way out."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Annotated, Final, Literal, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

Value = str | int | float | bool | None
_SECRET_NAME: Final = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|private|seed|credential|authorization|cookie|(api|access)_?key)"
)
_URL_PASSWORD: Final = re.compile(r"(\w+://[^/\s:@]*):[^/\s]+@")
SCRUBBED: Final = "[scrubbed]"
Listener = Callable[[Mapping[str, object]], None]
_listeners: Final[list[Listener]] = []


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: what is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], msgspec.Meta(description="Lowest level that is written.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        msgspec.Meta(description="`json` for journald, `console` for people, `auto` by whether a terminal listens."),
    ] = "auto"


def configure(config: LogConfig) -> None:
    """Send log lines to standard error in the configured form; safe to call again on reload."""
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(default=repr)
    )
    lowest = getattr(logging, config.level.upper())

    def written(_logger: object, method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        if getattr(logging, method.upper(), logging.ERROR) < lowest:
            raise structlog.DropEvent
        return event

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _scrub,
            _tell,
            written,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(lowest, logging.INFO)),
        logger_factory=lambda *_: _Writer(),
        cache_logger_on_first_use=False,
    )
    _RoomLogger.debugs = lowest <= logging.DEBUG
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, force=True)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand every event from `info` on to `listener`, scrubbed, whatever level is written; from any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class _Writer:
    """Writes lines to standard error as it is now; a full disk or a closed pipe behind it must not stop the daemon."""

    def msg(self, message: str) -> None:
        """Write one line or drop it."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = msg


def get_logger(room: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `room`; event names are keys of `events.EVENTS` (a house test reads the
    source for it)."""
    return cast("FilteringBoundLogger", _RoomLogger(structlog.get_logger(room=room)))


class _RoomLogger:
    """A logger of structlog that is bound anew for each line, so that it heeds changes of the configuration.

    What only a debugging person reads must cost nothing where nobody does: it stands on the way of every job.
    """

    __slots__ = ("_logger",)
    debugs = True
    """Whether lines of the level `debug` go anywhere."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> object:
        return getattr(self._logger, name)

    def debug(self, event: str, **fields: object) -> None:
        if self.debugs:
            self._logger.debug(event, **fields)


def is_secret_name(name: str) -> bool:
    """Say whether what is called so may be secret."""
    return _SECRET_NAME.search(name) is not None


def scrub(fields: Mapping[str, object]) -> dict[str, object]:
    """Return `fields` with values of secret-sounding names, raw bytes and passwords in URLs removed, at any depth."""
    return {name: SCRUBBED if _SECRET_NAME.search(name) else _clean(value) for name, value in fields.items()}


def _clean(value: object) -> object:
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1:***@", value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return scrub({str(key): inner for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]
    return value


def _scrub(_logger: object, _method: str, event: MutableMapping[str, object]) -> Mapping[str, object]:
    return scrub(event)


def _tell(_logger: object, method: str, event: MutableMapping[str, object]) -> Mapping[str, object]:
    if method != "debug":
        for listener in tuple(_listeners):
            listener(event)
    return event
