"""Cases 43 to 55: extensions and multicast."""

from __future__ import annotations

import json
from typing import Final

from qedge.client.probe.case import case
from qedge.client.probe.stand import NOT_FOUND, UNMET, UNSUPPORTED, Stand, good, refused
from qedge.client.probe.verdict import FailedError, SkippedError, WarnedError, expect

_UNKNOWN: Final = {"probe_unknown_parameter": 1}
_ANY: Final = {"qedge_route_type": "any"}
_NEVER: Final = [{"qedge_route_type": "computational"}, {"qedge_min_security": "its"}]


async def _unchanged(stand: Stand, before: int) -> None:
    after = await stand.stored()
    expect(before < 0 or after < 0 or after >= before, f"{before} keys before and {after} after")


async def _known(stand: Stand) -> None:
    extension = (await stand.status()).get("status_extension")
    if not isinstance(extension, dict) or "qedge_route_type" not in extension.get("qedge_extensions", ()):
        raise SkippedError("the key manager names no extension that the probe knows")


@case(43, "An unknown mandatory extension is 400 with the exact text, and nothing is taken")
async def unknown_mandatory(stand: Stand) -> None:
    """Demand what nobody knows."""
    before = await stand.stored()
    refused(await stand.ask({"extension_mandatory": [_UNKNOWN]}), 400, exact=UNSUPPORTED)
    await _unchanged(stand, before)


@case(44, "A demand that cannot be met is 400 with the exact text")
async def unmet(stand: Stand) -> None:
    """Demand what contradicts itself."""
    await _known(stand)
    before = await stand.stored()
    refused(await stand.ask({"extension_mandatory": _NEVER}), 400, exact=UNMET)
    await _unchanged(stand, before)


@case(45, "A demand that is met shows in key_extension", consumes=True)
async def met(stand: Stand) -> None:
    """Demand any route."""
    await _known(stand)
    reply = await stand.ask({"extension_mandatory": [_ANY]})
    stand.note_fresh(stand.keys_in(reply))
    (key,) = json.loads(reply.body)["keys"]
    expect("qedge_route_type" in key.get("key_extension", {}), "key_extension does not say the route")


@case(46, "An unknown optional extension is passed over", consumes=True)
async def unknown_optional(stand: Stand) -> None:
    """Wish for what nobody knows."""
    reply = await stand.ask({"extension_optional": [_UNKNOWN]})
    if reply.status == 400:
        refused(reply)
        raise WarnedError("refused, which the standard allows and no client expects")
    stand.note_fresh(stand.keys_in(reply))


@case(47, "Empty extension arrays are as if absent", consumes=True)
async def empty_extensions(stand: Stand) -> None:
    """Send empty arrays."""
    reply = await stand.ask({"extension_mandatory": [], "extension_optional": []})
    stand.note_fresh(stand.keys_in(reply))


@case(48, "Extensions that are no array of objects are 400")
async def bad_extensions(stand: Stand) -> None:
    """Send other things."""
    for name in ("extension_mandatory", "extension_optional"):
        wrong: tuple[object, ...] = ({}, "x", [1], [[]], None)
        for value in wrong:
            try:
                refused(await stand.ask({name: value}))
            except FailedError as error:
                raise FailedError(f"{name} {value!r}: {error}") from None


@case(49, "max_SAE_ID_count is what the key manager does", consumes=True)
async def multicast_limit(stand: Stand) -> None:
    """Name one additional slave: accepted where the number is above 0, refused where it is 0."""
    limit = (await stand.limits())["max_SAE_ID_count"]
    if limit == 0:
        refused(await stand.ask({"additional_slave_SAE_IDs": [stand.slave + "-other"]}))
        return
    if not stand.additional:
        raise SkippedError("needs the id of an additional slave")
    stand.note_fresh(await stand.take(additional_slave_SAE_IDs=[stand.additional[0]]))


async def _several(stand: Stand, count: int) -> list[str]:
    if (await stand.limits())["max_SAE_ID_count"] < count:
        raise SkippedError("no multicast to so many")
    known = [sae for sae in stand.additional if sae in stand.people]
    if len(known) < count:
        raise SkippedError(f"needs the certificates of {count} additional slaves")
    stand.person(stand.slave, "the slave")
    return known[:count]


@case(50, "Two additional slaves: three get equal bytes, each once", consumes=True)
async def multicast(stand: Stand) -> None:
    """Collect as everybody."""
    others = await _several(stand, 2)
    keys = await stand.take(2, additional_slave_SAE_IDs=others)
    stand.note_fresh(keys)
    for who in (stand.slave, *others):
        expect(stand.keys_in(await stand.collect(list(keys), who=who)) == keys, f"{who} got other keys")
        refused(await stand.collect(list(keys), who=who), 400, exact=NOT_FOUND)


@case(51, "More additional slaves than the limit are 400")
async def too_many_slaves(stand: Stand) -> None:
    """Name one too many."""
    limit = (await stand.limits())["max_SAE_ID_count"]
    refused(await stand.ask({"additional_slave_SAE_IDs": [f"probe-{place}" for place in range(limit + 1)]}))


@case(52, "An unknown additional slave is 400, and nothing is taken")
async def unknown_additional(stand: Stand) -> None:
    """Name nobody."""
    before = await stand.stored()
    refused(await stand.ask({"additional_slave_SAE_IDs": ["probe-nobody-has-this-id"]}))
    await _unchanged(stand, before)


@case(53, "Repeated slaves count once", consumes=True)
async def repeated_slaves(stand: Stand) -> None:
    """Name the slave and an additional one twice."""
    others = await _several(stand, 1)
    keys = await stand.take(additional_slave_SAE_IDs=[stand.slave, *others, *others])
    stand.note_fresh(keys)
    for who in (stand.slave, *others):
        expect(stand.keys_in(await stand.collect(list(keys), who=who)) == keys, f"{who} got other keys")
        refused(await stand.collect(list(keys), who=who), 400)


@case(54, "An empty list of additional slaves is unicast", consumes=True)
async def no_additional(stand: Stand) -> None:
    """Send an empty list."""
    good(reply := await stand.ask({"additional_slave_SAE_IDs": []}))
    stand.note_fresh(stand.keys_in(reply))


@case(55, "One slave's copy is not another's", consumes=True)
async def own_copies(stand: Stand) -> None:
    """Collect as one, then as the other."""
    (other,) = await _several(stand, 1)
    keys = await stand.take(additional_slave_SAE_IDs=[other])
    stand.note_fresh(keys)
    expect(stand.keys_in(await stand.collect(list(keys), who=other)) == keys, "the additional slave got other keys")
    expect(stand.keys_in(await stand.collect(list(keys))) == keys, "the slave's copy went with the other's")
