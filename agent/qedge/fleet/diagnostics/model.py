"""Nouns of diagnostics: what is asked of a box, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from qedge.wire.node import NodeStatus
from qedge.wire.trust import IdentityView


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that the node listens on; `key` is its setting."""

    key: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """What the configuration says that a look at the box needs.

    `faults` are those of the configuration, as sentences; `secret_files` hold secrets alone, `certificate_files` are
    PEM. `broker` is host and port, None for a private broker.
    """

    node: str
    state_dir: str
    runtime_dir: str
    files: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    broker: tuple[str, int] | None = None
    broker_kind: str = "auto"
    max_devices: int = 0
    drivers: tuple[tuple[str, str], ...] = ()
    secret_files: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileCertificate:
    """A certificate in a file; `problem` says why it cannot be read."""

    path: str
    until_utc_ns: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: `problem` says why it cannot be used; `loose` are files in it that others may read or write."""

    path: str
    problem: str = ""
    missing: bool = False
    free_bytes: int = 0
    free_share: float = 1.0
    loose: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A database of the state folder; `problem` is what SQLite says against it."""

    path: str
    size_bytes: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BoxFacts:
    """What was seen. None or empty: it could not be seen.

    `ports` has, for each listener, why it cannot be listened on; `status` is what the daemon said, `silence` why it
    said nothing.
    """

    utc_ns: int
    python: tuple[int, int]
    state: Folder
    databases: tuple[DatabaseFile, ...] = ()
    socket_path: str = ""
    status: NodeStatus | None = None
    identity: IdentityView | None = None
    silence: str = ""
    ports: dict[Listener, str] = field(default_factory=dict[Listener, str])
    broker_problem: str = ""
    broker_programs: tuple[str, ...] = ()
    clock_synchronised: bool | None = None
    open_files_soft: int = 0
    open_files_hard: int = 0
    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    certificates: tuple[FileCertificate, ...] = ()
    loose_secrets: tuple[str, ...] = ()
    installed_drivers: tuple[str, ...] = ()
    unit_files: tuple[str, ...] = ()
