"""Our own parameters in `extension_mandatory` and `extension_optional`, and what answers say beyond the standard.

Vendor names begin with a prefix that ends in `_` (clause 6.2): ours are `qedge_…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from qedge.qkd.delivery.model import UNMET, UNSUPPORTED, Extension, bad
from qedge.qkd.delivery.ports import ROUTES, Constraints, DeliverableKey, Provenance, StoredStatus
from qedge.qkd.delivery.requests import shown

ITS_ROUTES: Final = frozenset({"direct", "relayed"})
_MAX_AGE_S: Final = 1e9
_MAX_HOPS: Final = 255


def _route(value: object) -> Constraints | None:
    if value == "any":
        return Constraints()
    return Constraints(routes=frozenset({value})) if isinstance(value, str) and value in ROUTES else None


def _hops(value: object) -> Constraints | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_HOPS
    return Constraints(max_hops=value) if fits and isinstance(value, int) else None


def _age(value: object) -> Constraints | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MAX_AGE_S:
        return None
    return Constraints(max_age_s=float(value))


def _security(value: object) -> Constraints | None:
    if value == "its":
        return Constraints(routes=ITS_ROUTES)
    return Constraints(routes=ITS_ROUTES | {"hybrid"}) if value == "hybrid" else None


KNOWN: Final[Mapping[str, Callable[[object], Constraints | None]]] = {
    "qedge_route_type": _route,
    "qedge_max_hops": _hops,
    "qedge_max_age_s": _age,
    "qedge_min_security": _security,
}
"""Parameter → what its value asks for; None: no key can ever satisfy it."""

_NO_ROUTE: Final = frozenset({"none"})


def demands(mandatory: Sequence[Extension]) -> Constraints:
    """Read what has to be met; raises the standard's refusals for unknown names and impossible values."""
    unknown = sorted({extension.name for extension in mandatory if extension.name not in KNOWN})
    if unknown:
        raise bad(UNSUPPORTED, extension_mandatory_unsupported=", ".join(map(shown, unknown[:16])))
    wanted = Constraints()
    for extension in mandatory:
        asked = KNOWN[extension.name](extension.value)
        if asked is None:
            raise unmet(extension.name)
        wanted = _both(wanted, asked)
    if wanted.routes == _NO_ROUTE:
        raise unmet("qedge_route_type")
    return wanted


def wishes(mandatory: Constraints, optional: Sequence[Extension]) -> Constraints:
    """Add what would be welcome; unknown names and values are passed over, and so is what contradicts a demand."""
    wanted = mandatory
    for extension in optional:
        asked = KNOWN[extension.name](extension.value) if extension.name in KNOWN else None
        more = wanted if asked is None else _both(wanted, asked)
        wanted = wanted if more.routes == _NO_ROUTE else more
    return wanted


def unmet(*names: str) -> Exception:
    """Make the refusal for demands that no key here satisfies."""
    return bad(UNMET, extension_mandatory_unmet=", ".join(names)) if names else bad(UNMET)


@lru_cache(maxsize=256)  # the keys of one answer are mostly of one origin
def key_extension(provenance: Provenance) -> dict[str, object]:
    """Say where a key came from."""
    return {
        "qedge_route_type": provenance.route,
        "qedge_hops": provenance.hops,
        "qedge_links": list(provenance.links),
        "qedge_security": security_of(provenance.route),
        "qedge_protocol": provenance.protocol,
        "qedge_epsilon": provenance.epsilon,
        "qedge_age_s": round(provenance.age_s, 3),
        "qedge_simulated": provenance.simulated,
    }


def container_extension(keys: Sequence[DeliverableKey]) -> dict[str, object]:
    """Sum up where the keys of one answer came from: the worst of each."""
    sources = [key.provenance for key in keys]
    return {
        "qedge_route_types": sorted({source.route for source in sources}),
        "qedge_max_hops": max(source.hops for source in sources),
        "qedge_epsilon": max(source.epsilon for source in sources),
        "qedge_simulated": any(source.simulated for source in sources),
    }


def status_extension(stored: StoredStatus, *, permitted: bool, transport: str) -> dict[str, object]:
    """Say more about a pair; `transport` is how the hop from application to node is protected."""
    return {
        "qedge_stored_bits": stored.bits,
        "qedge_route_type": stored.route,
        "qedge_hops": stored.hops,
        "qedge_simulated": stored.simulated,
        "qedge_permitted": permitted,
        "qedge_transport": transport,
        "qedge_extensions": sorted(KNOWN),
    }


def security_of(route: str) -> str:
    """Return `its`, `hybrid` or `computational`."""
    return "its" if route in ITS_ROUTES else route


def _both(one: Constraints, other: Constraints) -> Constraints:
    routes = one.routes & other.routes if one.routes and other.routes else one.routes | other.routes
    if one.routes and other.routes and not routes:
        routes = _NO_ROUTE
    return replace(
        one,
        routes=routes,
        max_hops=int(_smaller(one.max_hops, other.max_hops)),
        max_age_s=_smaller(one.max_age_s, other.max_age_s),
    )


def _smaller(one: float, other: float) -> float:
    return min(one, other) if one and other else one or other
