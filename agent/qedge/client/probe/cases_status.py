"""Cases 13 to 23: Get status."""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.client.kme import path_of
from qedge.client.probe.case import case
from qedge.client.probe.stand import COUNTERS, NAMES, Stand, good, number, refused
from qedge.client.probe.verdict import FailedError, SkippedError, WarnedError, expect

_NOBODY: Final = "probe-nobody-has-this-id"


@case(13, "Status has all eleven members")
async def members(stand: Stand) -> None:
    """Compare the names."""
    found = await stand.status()
    missing = [name for name in (*NAMES, *COUNTERS) if name not in found]
    expect(not missing, f"missing: {', '.join(missing)}")
    expect(all(isinstance(found[name], str) for name in NAMES), "an id is no string")


@case(14, "Counters are JSON integers")
async def integers(stand: Stand) -> None:
    """Neither strings nor booleans."""
    found = await stand.status()
    for name in COUNTERS:
        number(found, name)


@case(15, "master_SAE_ID is the identity of the certificate")
async def master(stand: Stand) -> None:
    """Compare."""
    found = (await stand.status()).get("master_SAE_ID")
    expect(found == stand.master, f"master_SAE_ID is {found!r}")


@case(16, "slave_SAE_ID is the id of the URL")
async def slave(stand: Stand) -> None:
    """Compare."""
    found = (await stand.status()).get("slave_SAE_ID")
    expect(found == stand.slave, f"slave_SAE_ID is {found!r}")


@case(17, "Source and target KME ids are right in both directions")
async def both_directions(stand: Stand) -> None:
    """Ask from both ends."""
    stand.person(stand.slave, "the slave")
    there = await stand.status()
    back = await stand.status(who=stand.slave, slave=stand.master)
    expect(there["source_KME_ID"] == back["target_KME_ID"], "the ends disagree about the master's KME")
    expect(there["target_KME_ID"] == back["source_KME_ID"], "the ends disagree about the slave's KME")
    for known, name in ((stand.kme_id, "source_KME_ID"), (stand.slave_kme_id, "target_KME_ID")):
        expect(not known or there[name] == known, f"{name} is {there[name]!r}")


@case(18, "stored_key_count is never above max_key_count", consumes=True)
async def within_limit(stand: Stand) -> None:
    """Ask again and again while keys are taken."""

    async def look() -> None:
        async with stand.fresh() as link:
            for _ in range(10):
                found = good(await link.request("GET", path_of(stand.slave, "status")))
                expect(0 <= number(found, "stored_key_count") <= number(found, "max_key_count"), "stored > max")

    async def draw() -> None:
        for _ in range(10):
            stand.note_fresh(await stand.take(2))

    await asyncio.gather(look(), draw())


@case(19, "stored_key_count falls by what was taken", consumes=True)
async def falls(stand: Stand) -> None:
    """Take five keys of the default size."""
    before = await stand.stored()
    stand.note_fresh(await stand.take(5))
    after = await stand.stored()
    if before < 0 or after < 0:
        raise SkippedError("the pool is larger than max_key_count, so the number does not move")
    if after != before - 5:
        if after > before - 5:
            raise WarnedError(f"{before} before and {after} after: keys may have come meanwhile")
        raise FailedError(f"{before} before and {after} after five keys were taken")


@case(20, "min_key_size ≤ key_size ≤ max_key_size")
async def sizes(stand: Stand) -> None:
    """Compare."""
    limits = await stand.limits()
    expect(0 < limits["min_key_size"] <= limits["key_size"] <= limits["max_key_size"], "the sizes do not rise")


@case(21, "An unknown slave is 400, not 404")
async def unknown_slave(stand: Stand) -> None:
    """Ask for nobody."""
    reply = await stand.link().request("GET", path_of(_NOBODY, "status"))
    if reply.status == 404:
        raise FailedError("404 is no answer of this interface")
    refused(reply, 400)


@case(22, "A percent-encoded id comes through")
async def encoded_id(stand: Stand) -> None:
    """Ask for an id with a space, a slash and a letter outside ASCII, where somebody has one; else encode a letter."""
    odd = next((sae for sae in (*stand.additional, *stand.people) if not sae.isascii() or "/" in sae), "")
    if odd:
        found = good(await stand.link().request("GET", path_of(odd, "status")))
        expect(found["slave_SAE_ID"] == odd, f"slave_SAE_ID is {found['slave_SAE_ID']!r}")
    code = "".join(f"%{byte:02X}" for byte in stand.slave.encode())
    found = good(await stand.link().request("GET", f"/api/v1/keys/{code}/status"))
    expect(found["slave_SAE_ID"] == stand.slave, f"slave_SAE_ID is {found['slave_SAE_ID']!r}")


@case(23, "Status consumes nothing")
async def consumes_nothing(stand: Stand) -> None:
    """Ask ten times."""
    before = await stand.stored()
    for _ in range(10):
        await stand.status()
    after = await stand.stored()
    if before < 0 or after < 0:
        raise SkippedError("the pool is larger than max_key_count, so the number does not move")
    expect(after >= before, f"{before} before and {after} after")
