"""Which applications there are, at which node, and who may share keys with whom. What no entry permits is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.base.settings import Fault
from qedge.qkd.delivery.config import SaeConfig
from qedge.qkd.delivery.model import ANY_SLAVE, Sae

MAX_ADDED: Final = 1024
MAX_PERMITTED: Final = 1024
"""As `SaeConfig` has it: what was kept with more would not be read again at the next start."""
_MAX_ID: Final = 200


def uri_of(sae_id: str) -> str:
    """Write an id as the URI of a certificate: letters that a URI cannot have are percent-encoded."""
    return quote(sae_id, safe="!$&'()*+,-./:;=?@_~")


def id_of(uri: str) -> str:
    """Read an id from the URI of a certificate."""
    return unquote(uri, errors="replace")


def check_saes(saes: Mapping[str, SaeConfig]) -> Iterator[Fault]:
    """Find ids that two sections share, and permissions for names that no section has."""
    holders: dict[str, str] = {}
    for name, sae in saes.items():
        path = ("qkd", "saes", name)
        other = holders.setdefault(sae.id or name, name)
        if other != name:
            yield Fault((*path, "id"), f"is the id of {other} too", "an id of its own")
        for place, permitted in enumerate(sae.permit):
            if permitted != ANY_SLAVE and permitted not in saes:
                yield Fault((*path, "permit", place), f"is {permitted!r}", "the name of a section of qkd.saes, or *")


class Registry:
    """All applications that this node knows: those of the configuration, and those added by command.

    The configuration goes first: an entry that was added under the same name or id counts no more.
    """

    def __init__(self, node: str, configured: Mapping[str, SaeConfig], added: Sequence[Sae] = ()) -> None:
        self._node = node
        self._configured = {name: self._sae(name, config) for name, config in configured.items()}
        self._added = {sae.name: sae for sae in added}
        self._index()

    @property
    def node(self) -> str:
        """Name of this node."""
        return self._node

    @property
    def added(self) -> tuple[Sae, ...]:
        """Return the entries that were added by command, which somebody has to keep."""
        return tuple(self._added.values())

    def all(self) -> tuple[Sae, ...]:
        """Return every entry in the order of names."""
        return tuple(self._by_name[name] for name in sorted(self._by_name))

    def find(self, sae_id: str) -> Sae | None:
        """Return the application of an id."""
        return self._by_id.get(sae_id)

    def named(self, name: str) -> Sae:
        """Return the entry of a name; raises `keys.no_sae`."""
        if name not in self._by_name:
            raise QedgeError("keys.no_sae", f"No application is called {name!r}.", fix="`qedge keys sae list` has all.")
        return self._by_name[name]

    def local(self, sae_id: str) -> Sae | None:
        """Return the application of an id if it is attached to this node."""
        sae = self.find(sae_id)
        return sae if sae is not None and sae.node == self._node else None

    @staticmethod
    def permits(master: Sae, slave: Sae) -> bool:
        """Say whether `master` may ask keys with `slave`; with itself it always may."""
        return master.name == slave.name or slave.name in master.permit or ANY_SLAVE in master.permit

    def reconfigure(self, configured: Mapping[str, SaeConfig]) -> None:
        """Take the sections of a new configuration."""
        self._configured = {name: self._sae(name, config) for name, config in configured.items()}
        self._index()

    def add(self, name: str, config: SaeConfig) -> Sae:
        """Add an application, or change one that was added; raises `keys.sae_taken`, `keys.bad_sae`."""
        sae = self._sae(name, config, configured=False)
        self._check_free(sae)
        if name not in self._added and len(self._added) >= MAX_ADDED:
            raise QedgeError("keys.bad_sae", f"At most {MAX_ADDED} applications can be added.", limit=MAX_ADDED)
        self._check_names(sae)
        self._added[name] = sae
        self._index()
        return sae

    def bring_back(self, name: str, config: SaeConfig) -> None:
        """Take an application that was added before this start; where the configuration has its name it rests."""
        self._added[name] = self._sae(name, config, configured=False)
        self._index()

    def copy(self) -> Registry:
        """Return a registry with the same entries, to try a change on."""
        other = Registry(self._node, {}, self.added)
        other._configured = dict(self._configured)
        other._index()
        return other

    def take_over(self, other: Registry) -> None:
        """Take the added entries of a copy."""
        self._added = dict(other._added)
        self._index()

    def configs_added(self) -> dict[str, SaeConfig]:
        """Return the added entries as settings, by name."""
        return {
            sae.name: SaeConfig(sae.id, sae.node, sae.permit, sae.max_keys_per_request, sae.max_keys_per_s)
            for sae in self.added
        }

    def permit(self, name: str, slaves: Sequence[str], *, withdraw: bool = False) -> Sae:
        """Let an application that was added ask keys with others, or no more."""
        sae = self._changeable(name)
        kept = [each for each in sae.permit if each not in slaves]
        config = SaeConfig(
            id=sae.id,
            node=sae.node,
            permit=tuple(kept if withdraw else [*kept, *slaves]),
            max_keys_per_request=sae.max_keys_per_request,
            max_keys_per_s=sae.max_keys_per_s,
        )
        return self.add(name, config)

    def remove(self, name: str) -> Sae:
        """Remove an application that was added, and the permissions for it."""
        sae = self._changeable(name)
        del self._added[name]
        for other in list(self._added.values()):
            if name in other.permit:
                self._added[other.name] = _replace_permit(other, tuple(each for each in other.permit if each != name))
        self._index()
        return sae

    def _sae(self, name: str, config: SaeConfig, *, configured: bool = True) -> Sae:
        return Sae(
            name=name,
            id=config.id or name,
            node=config.node or self._node,
            permit=tuple(dict.fromkeys(config.permit)),
            max_keys_per_request=config.max_keys_per_request,
            max_keys_per_s=config.max_keys_per_s,
            configured=configured,
        )

    def _index(self) -> None:
        taken = {sae.id for sae in self._configured.values()}
        added = {name: sae for name, sae in self._added.items() if sae.id not in taken and name not in self._configured}
        self._by_name = {**added, **self._configured}
        self._by_id = {sae.id: sae for sae in self._by_name.values()}

    def _changeable(self, name: str) -> Sae:
        sae = self.named(name)
        if sae.configured:
            raise QedgeError(
                "keys.sae_configured",
                f"{name} stands in the configuration.",
                fix=f"Change [qkd.saes.{name}] there and reload the daemon.",
            )
        return self._added[name]

    def _check_free(self, sae: Sae) -> None:
        for other in self._by_name.values():
            if other.name == sae.name and other.configured:
                self._changeable(sae.name)
            if other.id == sae.id and other.name != sae.name:
                raise QedgeError(
                    "keys.sae_taken", f"{other.name} has the id {sae.id!r}.", fix="Choose another id with --id."
                )

    def _check_names(self, sae: Sae) -> None:
        if len(sae.id) > _MAX_ID or not sae.id.isprintable():
            raise QedgeError("keys.bad_sae", "The id is too long or has control characters.", fix="Choose another.")
        if sae.node and not is_name(sae.node):
            raise QedgeError("keys.bad_sae", f"{sae.node!r} can be no node.", fix="`qedge peers` names the nodes.")
        if len(sae.permit) > MAX_PERMITTED:
            raise QedgeError(
                "keys.bad_sae",
                f"{sae.name} would be permitted more than {MAX_PERMITTED} others.",
                fix=f"Permit {ANY_SLAVE} instead.",
            )
        unknown = [each for each in sae.permit if each not in (ANY_SLAVE, sae.name) and each not in self._by_name]
        if unknown:
            raise QedgeError(
                "keys.no_sae", f"No application is called {unknown[0]!r}.", fix="Add it first: `qedge keys sae add`."
            )


def _replace_permit(sae: Sae, permit: tuple[str, ...]) -> Sae:
    return Sae(sae.name, sae.id, sae.node, permit, sae.max_keys_per_request, sae.max_keys_per_s, sae.configured)
