"""Gathers the section structs of all rooms into one configuration, and reads it from TOML files.

`/etc/qedge/agent.toml`, then `/etc/qedge/conf.d/*.toml` in the order of their names, then the layer that the fleet
gave, in the state folder; later values win. Every fault is found at once, with its file and line; a configuration with
faults is never used in part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec

from qedge.base.driver_settings import check_driver_settings
from qedge.base.errors import QedgeError
from qedge.base.folders import default_runtime_dir, default_state_dir, legal_name
from qedge.base.layered_toml import LayeredToml, Origin, read_layers
from qedge.base.log import LogConfig
from qedge.base.settings import MAX_FAULTS, Fault, KeyPath, check, show
from qedge.bus.config import BusConfig
from qedge.crypto.config import CryptoConfig
from qedge.crypto.policy import check_policy
from qedge.devices.config import DEVICE_SECTIONS, DevicesConfig
from qedge.devices.segments.config import check_segments
from qedge.engine.config import EngineConfig
from qedge.engine.decoding.config import DecodeConfig
from qedge.entropy.config import EntropyConfig
from qedge.fleet.config import FLEET_SECTIONS, FleetConfig
from qedge.fleet.configuration.files import LAYER_FILE
from qedge.fleet.configuration.layering import with_fleet
from qedge.mesh.config import HostConfig, MeshConfig
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.placement.config import PlacementConfig
from qedge.orchestrator.results.config import ResultsConfig
from qedge.orchestrator.state.config import StateConfig
from qedge.orchestrator.uplink.config import UplinkConfig
from qedge.qkd.config import LinkConfig
from qedge.qkd.delivery.config import DeliveryConfig, SaeConfig
from qedge.qkd.delivery.registry import check_saes
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.security.config import SECURITY_SECTIONS, SecurityConfig
from qedge.web.config import WebConfig
from qedge.workers.config import DriverConfig, WorkersConfig
from qedge_driver_api import SettingInfo

SYSTEM_FOLDER: Final = Path("/etc/qedge")
MAIN_FILE: Final = "agent.toml"
DROP_IN_FOLDER: Final = "conf.d"
MAX_DRIVERS: Final = 64
MAX_SAES: Final = 10_000

Schemas = Mapping[str, tuple[SettingInfo, ...] | QedgeError]
Describe = Callable[[Sequence[str]], Schemas]
"""Ask drivers, by entry point name, for their settings. It asks in workers: this process never imports a driver."""

_NAME_WORDS: Final = "at most 36 letters, digits, - and _"
InstanceName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title=_NAME_WORDS)]


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[node]`: who this node is and where it keeps its files."""

    name: Annotated[
        str,
        msgspec.Meta(
            description="Name of this node in its fleet; empty: the host's name.",
            pattern=r"^[A-Za-z0-9_-]{0,36}\Z",
            title=_NAME_WORDS,
        ),
    ] = ""
    fleet: Annotated[
        str,
        msgspec.Meta(
            description="Fleet that this node belongs to.", pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title=_NAME_WORDS
        ),
    ] = "local"
    labels: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z", title="a word")], ...],
        msgspec.Meta(description="Words that jobs may ask for or avoid when they choose a node.", max_length=16),
    ] = ()
    state_dir: Annotated[
        str,
        msgspec.Meta(
            description="Folder of everything that must survive, as an absolute path; empty: /var/lib/qedge for the "
            "service, otherwise `qedge` in the user's state folder.",
            pattern=r"^(/|\Z)",
            max_length=1024,
            title="an absolute path or empty",
        ),
    ] = ""
    runtime_dir: Annotated[
        str,
        msgspec.Meta(
            description="Folder of the unix socket, as an absolute path; empty: /run/qedge for the service, `qedge` in "
            "the user's runtime folder, or `run` in a state folder that was chosen.",
            pattern=r"^(/|\Z)",
            max_length=1024,
            title="an absolute path or empty",
        ),
    ] = ""


class QkdConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd]`: the QKD links of this box, the keys from them, and who gets them."""

    links: Annotated[dict[InstanceName, LinkConfig], msgspec.Meta(max_length=MAX_DRIVERS)] = {}
    keys: KeyStoreConfig = KeyStoreConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    saes: Annotated[dict[InstanceName, SaeConfig], msgspec.Meta(max_length=MAX_SAES)] = {}


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a configuration file may say."""

    node: NodeConfig = NodeConfig()
    log: LogConfig = LogConfig()
    http: WebConfig = WebConfig()
    broker: BusConfig = BusConfig()
    crypto: CryptoConfig = CryptoConfig()
    engine: EngineConfig = EngineConfig()
    results: ResultsConfig = ResultsConfig()
    placement: PlacementConfig = PlacementConfig()
    ledger: LedgerConfig = LedgerConfig()
    decode: DecodeConfig = DecodeConfig()
    entropy: EntropyConfig = EntropyConfig()
    host: HostConfig = HostConfig()
    mesh: MeshConfig = MeshConfig()
    state: StateConfig = StateConfig()
    uplink: UplinkConfig = UplinkConfig()
    workers: WorkersConfig = WorkersConfig()
    drivers: Annotated[dict[InstanceName, DriverConfig], msgspec.Meta(max_length=MAX_DRIVERS)] = {}
    qkd: QkdConfig = QkdConfig()
    devices: DevicesConfig = DevicesConfig()
    security: SecurityConfig = SecurityConfig()
    fleet: FleetConfig = FleetConfig()


SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "node": NodeConfig,
    "log": LogConfig,
    "http": WebConfig,
    "broker": BusConfig,
    "crypto": CryptoConfig,
    "engine": EngineConfig,
    "results": ResultsConfig,
    "placement": PlacementConfig,
    "decode": DecodeConfig,
    "entropy": EntropyConfig,
    "host": HostConfig,
    "mesh": MeshConfig,
    "state": StateConfig,
    "uplink": UplinkConfig,
    "workers": WorkersConfig,
    "drivers.NAME": DriverConfig,
    "qkd.links.NAME": LinkConfig,
    "qkd.keys": KeyStoreConfig,
    "qkd.delivery": DeliveryConfig,
    "qkd.saes.NAME": SaeConfig,
    **DEVICE_SECTIONS,
    **SECURITY_SECTIONS,
    **FLEET_SECTIONS,
}
"""Sections as the reference lists them."""

LIVE_SECTIONS: Final = frozenset({"log", "drivers"})
"""Sections that a reload applies; the others take effect at the next start."""

DEFAULT_DRIVERS: Final[Mapping[str, DriverConfig]] = {
    "qpu": DriverConfig(driver="sim_qpu", spares=1),
    "qrng": DriverConfig(driver="sim_qrng"),
    "qkd-alice": DriverConfig(driver="sim_qkd", settings={"role": "alice", "link": "local"}),
    "qkd-bob": DriverConfig(driver="sim_qkd", settings={"role": "bob", "link": "local"}),
}
"""What a box without `[drivers]` has: simulated hardware of each kind."""

DEFAULT_LINKS: Final[Mapping[str, LinkConfig]] = {"local": LinkConfig(alice="qkd-alice", bob="qkd-bob")}


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration without faults; all defaults that depend on the box are filled in."""

    config: AgentConfig
    text: LayeredToml
    fleet_sha256: str = ""
    """Digest of the fleet's layer as it was read; empty: there is none."""

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files that were read, in order of rising precedence."""
        return tuple(layer.file for layer in self.text.layers)

    def origin(self, *path: str | int) -> Origin | None:
        """Return where a value was given; None: it is a default."""
        return self.text.origin(path)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a check: the configuration or its faults in order of place; `sound` is what is left without these."""

    loaded: LoadedConfig | None
    faults: tuple[Fault, ...]
    files: tuple[str, ...]
    sound: AgentConfig = field(default_factory=AgentConfig)


@dataclass(frozen=True, slots=True)
class Change:
    """A top-level section that differs; `live`: a reload applies it, otherwise the next start does.

    `names` are the entries that differ where the section is a table of named ones (`drivers`, `qkd`).
    """

    section: str
    live: bool
    names: tuple[str, ...] = ()


def load(
    path: str = "",
    *,
    state_dir: str = "",
    environ: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    fleet_layer: str | None = None,
) -> LoadedConfig:
    """Read the configuration, or raise `config.invalid` with its first fault, or `config.unreadable`."""
    verdict = check_config(path, state_dir=state_dir, environ=environ, describe=describe, fleet_layer=fleet_layer)
    if verdict.loaded is not None:
        return verdict.loaded
    first, more = verdict.faults[0], len(verdict.faults) - 1
    raise QedgeError(
        "config.invalid",
        f"The configuration has faults: {first}{f' (and {more} more)' if more else ''}.",
        fix=f"`qedge check{' ' + path if path else ''}` lists all of them.",
        faults=len(verdict.faults),
        file=first.file,
        line=first.line,
        key=first.key,
    )


def check_config(
    path: str = "",
    *,
    state_dir: str = "",
    environ: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    fleet_layer: str | None = None,
) -> Verdict:
    """Read the configuration at `path` (a file, or a folder as `/etc/qedge`; empty: that one) and find all faults.

    `state_dir` keeps everything of the node below one folder, whatever the files say. With `describe`, the settings
    of drivers are checked against what each driver says of itself. `fleet_layer` stands for the text of the fleet's
    layer (empty: without one); None: the file in the state folder counts.
    """
    environ = os.environ if environ is None else environ
    text = read_layers(config_files(path))
    text, fleet_sha256 = with_fleet(text, _state_of(text, environ, state_dir) / LAYER_FILE, fleet_layer, SECTIONS)
    faults = list(text.faults) + check(AgentConfig, text.values)
    config = with_defaults(msgspec.convert(_without(text.values, faults), AgentConfig), environ, state_dir)
    faults += _check_references(config, text.values)
    if describe is not None:
        faults += islice(_check_drivers(config, describe), MAX_FAULTS)
    placed = tuple(sorted((_place(fault, text) for fault in faults), key=lambda each: (each.file, each.line)))
    loaded = None if placed else LoadedConfig(config, text, fleet_sha256)
    return Verdict(loaded, placed, tuple(each.file for each in text.layers), config)


def state_folder(path: str = "", *, state_dir: str = "", environ: Mapping[str, str] | None = None) -> Path:
    """Return the state folder that the operator's files name; raises `config.unreadable`."""
    environ = os.environ if environ is None else environ
    return _state_of(read_layers(config_files(path)), environ, state_dir)


def _state_of(text: LayeredToml, environ: Mapping[str, str], state_dir: str) -> Path:
    node = text.values.get("node")
    named = node.get("state_dir") if isinstance(node, Mapping) else None
    return Path(state_dir or (named if isinstance(named, str) and named else default_state_dir(environ))).absolute()


def config_files(path: str = "") -> list[Path]:
    """Return the files that a path stands for: itself, or `agent.toml` and the drop-ins of a folder."""
    root = Path(path) if path else SYSTEM_FOLDER
    try:
        if path and not root.exists():
            raise QedgeError(
                "config.unreadable",
                f"There is no configuration at {path}.",
                fix="Name a TOML file or a folder with agent.toml; without --config, /etc/qedge or defaults are used.",
                path=path,
            )
        if root.is_file():
            return [root]
        main = root / MAIN_FILE
        drop_ins = sorted((root / DROP_IN_FOLDER).glob("*.toml"), key=lambda file: file.name)
        return [file for file in (main, *drop_ins) if file.exists()]
    except OSError as error:
        raise QedgeError(
            "config.unreadable",
            f"The configuration at {root} cannot be read: {error.strerror}.",
            fix="Name another one with --config, or run as the user of the service.",
            path=str(root),
        ) from error


def with_defaults(config: AgentConfig, environ: Mapping[str, str], state_dir: str = "") -> AgentConfig:
    """Fill in what depends on the box: names, folders, and simulated hardware where none is configured."""
    node = config.node
    chosen = str(Path(state_dir).absolute()) if state_dir else node.state_dir
    state = chosen or default_state_dir(environ)
    runtime = "" if state_dir else node.runtime_dir
    if not runtime and (state_dir or (chosen and not environ.get("RUNTIME_DIRECTORY"))):
        runtime = str(Path(state) / "run")
    runtime = runtime or default_runtime_dir(environ, state)
    node = msgspec.structs.replace(
        node, name=node.name or legal_name(os.uname().nodename), state_dir=state, runtime_dir=runtime
    )
    drivers, qkd = config.drivers, config.qkd
    if not drivers:
        drivers = dict(DEFAULT_DRIVERS)
        qkd = qkd if qkd.links else msgspec.structs.replace(qkd, links=dict(DEFAULT_LINKS))
    # The default name of the source means "if there is one"; a name that a file gives is checked against the drivers.
    source = config.entropy.source if config.entropy.source in drivers else ""
    entropy = msgspec.structs.replace(config.entropy, source=source)
    return msgspec.structs.replace(config, node=node, entropy=entropy, drivers=drivers, qkd=qkd)


def changed_sections(old: AgentConfig, new: AgentConfig) -> tuple[Change, ...]:
    """Return the top-level sections in which two configurations differ."""
    changes: list[Change] = []
    for section in AgentConfig.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if before == after:
            continue
        tables = (before.links, after.links) if isinstance(before, QkdConfig) else (before, after)
        names: tuple[str, ...] = ()
        if isinstance(tables[0], dict):
            both = sorted({*tables[0], *tables[1]})
            names = tuple(name for name in both if tables[0].get(name) != tables[1].get(name))
        changes.append(Change(section, section in LIVE_SECTIONS, names))
    return tuple(changes)


def _place(fault: Fault, text: LayeredToml) -> Fault:
    origin = None if fault.file else text.nearest_origin(fault.path)
    return fault if origin is None else replace(fault, file=origin.file, line=origin.line)


def _without(values: Mapping[str, object], faults: Sequence[Fault]) -> dict[str, object]:
    """Return `values` without the sections, and the named tables in them, that have faults: the rest is sound."""
    kept: dict[str, object] = {}
    faulty = {fault.path[:length] for fault in faults for length in range(1, len(fault.path) + 1)}
    for key, value in values.items():
        if key == "drivers" and isinstance(value, Mapping):
            kept[key] = {name: table for name, table in value.items() if (key, name) not in faulty}
        elif (key,) not in faulty:
            kept[key] = value
    return kept


def _check_references(config: AgentConfig, values: Mapping[str, object]) -> Iterator[Fault]:
    """Find names of drivers that no `[drivers.NAME]` has, and of algorithms that may not be used.

    `values` names also those drivers that have faults of their own.
    """
    yield from check_policy(config.crypto)
    yield from check_saes(config.qkd.saes)
    yield from check_segments(config.devices.segments, config.devices.onward.recipient)
    named: list[tuple[KeyPath, str]] = []
    entropy = values.get("entropy")
    if isinstance(entropy, Mapping) and isinstance(source := entropy.get("source"), str):
        named.append((("entropy", "source"), source))
    for name, link in config.qkd.links.items():
        ends = (("alice", link.alice), ("bob", link.bob), ("transceiver", link.transceiver))
        named += [(("qkd", "links", name, key), driver) for key, driver in ends]
        if link.fault:
            yield Fault(("qkd", "links", name), link.fault, "`alice` and `bob`, or `transceiver` and `peer`")
    written = values.get("drivers")
    known = {*config.drivers, *(written if isinstance(written, Mapping) else ())}
    for path, driver in named:
        if driver and driver not in known:
            yield Fault(path, f"is {show('', driver)}", f"the name of a configured driver ({', '.join(sorted(known))})")


def _check_drivers(config: AgentConfig, describe: Describe) -> Iterator[Fault]:
    schemas = describe(sorted({driver.driver for driver in config.drivers.values()}))
    for name, driver in config.drivers.items():
        schema = schemas[driver.driver]
        path: KeyPath = ("drivers", name)
        if isinstance(schema, QedgeError):
            yield Fault((*path, "driver"), f"is {show('', driver.driver)} ({schema.message})", "an installed driver")
        else:
            yield from check_driver_settings(schema, driver.settings, (*path, "settings"))
