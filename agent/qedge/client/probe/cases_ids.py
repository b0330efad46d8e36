"""Cases 56 to 73: Get key with key IDs, and the bodies of errors."""

from __future__ import annotations

import uuid

from qedge.client.kme import path_of
from qedge.client.kme_link import KmeLink
from qedge.client.probe.case import case
from qedge.client.probe.stand import NOT_FOUND, Stand, refused
from qedge.client.probe.verdict import FailedError, SkippedError, expect


async def _fresh(stand: Stand, count: int = 1, size: int = 0) -> dict[str, str]:
    stand.person(stand.slave, "the slave")
    keys = await stand.take(count, **({"size": size} if size else {}))
    stand.note_fresh(keys)
    return keys


async def _still_there(stand: Stand, keys: dict[str, str]) -> None:
    expect(stand.keys_in(await stand.collect(list(keys))) == keys, "the key is not there any more")


def _foreign(stand: Stand) -> str:
    return stand.person(stand.stranger, "a stranger").id


@case(56, "POST one ID", consumes=True)
async def one(stand: Stand) -> None:
    """Collect one key."""
    await _still_there(stand, await _fresh(stand))


@case(57, "POST many IDs, order kept", consumes=True)
async def many(stand: Stand) -> None:
    """Collect as many as one request may have, in reverse."""
    limits = await stand.limits()
    count = min(128, limits["max_key_per_request"])
    keys = await _fresh(stand, count, limits["min_key_size"])
    wanted = list(reversed(keys))
    got = stand.keys_in(await stand.collect(wanted))
    expect(list(got) == wanted, "the order of the IDs was not kept")
    expect(got == keys, "other keys came")


@case(58, "GET key_ID", consumes=True)
async def by_query(stand: Stand) -> None:
    """Collect one key by GET."""
    keys = await _fresh(stand)
    (key_id,) = keys
    expect(stand.keys_in(await stand.collect_by_query(f"key_ID={key_id}")) == keys, "another key came")


@case(59, "Equal bytes and IDs at both ends", consumes=True)
async def equal(stand: Stand) -> None:
    """Take and collect keys of several sizes."""
    limits = await stand.limits()
    for size in {limits["min_key_size"], limits["key_size"], limits["max_key_size"]}:
        await _still_there(stand, await _fresh(stand, 1, size))


@case(60, "A second collection is 400 with the exact text", consumes=True)
async def twice(stand: Stand) -> None:
    """Collect twice."""
    keys = await _fresh(stand)
    await _still_there(stand, keys)
    refused(await stand.collect(list(keys)), 400, exact=NOT_FOUND)


@case(61, "An unknown ID is 400 with the exact text")
async def unknown(stand: Stand) -> None:
    """Ask for a key that never was."""
    refused(await stand.collect([str(uuid.uuid4())]), 400, exact=NOT_FOUND)


@case(62, "One unknown ID: 400, and the others stay", consumes=True)
async def all_or_none(stand: Stand) -> None:
    """Mix a good one and an unknown one."""
    keys = await _fresh(stand)
    refused(await stand.collect([*keys, str(uuid.uuid4())]), 400, exact=NOT_FOUND)
    await _still_there(stand, keys)


@case(63, "A stranger is 401", consumes=True)
async def stranger(stand: Stand) -> None:
    """Ask as somebody the key is not for."""
    who, keys = _foreign(stand), await _fresh(stand)
    refused(await stand.collect(list(keys), who=who), 401)
    await _still_there(stand, keys)
    refused(await stand.collect(list(keys), who=who), 400, 401)


@case(64, "One foreign ID poisons the request: 401, nothing taken", consumes=True)
async def mixed(stand: Stand) -> None:
    """Ask as a stranger with an own key and a foreign one."""
    who = _foreign(stand)
    reply = await stand.ask({}, slave=who)
    if reply.status != 200:
        raise SkippedError("the master may not share keys with the stranger")
    own = stand.keys_in(reply)
    stand.note_fresh(own)
    foreign = await _fresh(stand)
    refused(await stand.collect([*own, *foreign], who=who), 401)
    expect(stand.keys_in(await stand.collect(list(own), who=who)) == own, "the own key is gone")
    await _still_there(stand, foreign)


@case(65, "The master is 401", consumes=True)
async def master(stand: Stand) -> None:
    """Ask for a key as the one who took it."""
    keys = await _fresh(stand)
    refused(await stand.collect(list(keys), who=stand.master), 401)
    await _still_there(stand, keys)


@case(66, "The wrong master in the URL is refused, and the key stays", consumes=True)
async def wrong_master(stand: Stand) -> None:
    """Name another master."""
    keys = await _fresh(stand)
    other = next((sae for sae in (stand.stranger, *stand.additional) if sae), "probe-nobody-has-this-id")
    refused(await stand.collect(list(keys), master=other), 400, 401)
    await _still_there(stand, keys)


@case(67, "GET with two key_ID is 400", consumes=True)
async def two_in_query(stand: Stand) -> None:
    """Collect two keys by GET."""
    keys = await _fresh(stand, 2)
    refused(await stand.collect_by_query("&".join(f"key_ID={key_id}" for key_id in keys)))
    await _still_there(stand, keys)


@case(68, "Bad UUIDs and missing IDs are 400")
async def malformed(stand: Stand) -> None:
    """Send what is no list of key IDs."""
    stand.person(stand.slave, "the slave")
    wrong: tuple[object, ...] = (
        {"key_IDs": [{"key_ID": "no-uuid"}]},
        {"key_IDs": []},
        {},
        {"key_IDs": ["x"]},
        {"key_IDs": [{}]},
        {"key_IDs": None},
        {"key_IDs": [{"key_ID": 7}]},
        [],
    )
    for value in wrong:
        try:
            refused(await stand.post("dec_keys", stand.master, value, who=stand.slave))
        except FailedError as error:
            raise FailedError(f"{value!r}: {error}") from None


@case(69, "A repeated ID is 400", consumes=True)
async def repeated(stand: Stand) -> None:
    """Ask for the same key twice in one request."""
    keys = await _fresh(stand)
    refused(await stand.collect([*keys, *keys]))
    await _still_there(stand, keys)


@case(70, "key_ID_extension is passed over", consumes=True)
async def extension(stand: Stand) -> None:
    """Send extensions that nobody knows."""
    keys = await _fresh(stand)
    listed = [{"key_ID": key_id, "key_ID_extension": {"probe_x": 1}} for key_id in keys]
    value = {"key_IDs": listed, "key_IDs_extension": {"probe_y": [1, 2]}}
    reply = await stand.post("dec_keys", stand.master, value, who=stand.slave)
    expect(stand.keys_in(reply) == keys, "other keys came")


@case(71, "An ID in upper case finds its key", consumes=True)
async def upper_case(stand: Stand) -> None:
    """UUIDs have no case."""
    keys = await _fresh(stand)
    got = stand.keys_in(await stand.collect([key_id.upper() for key_id in keys]))
    expect(list(got.values()) == list(keys.values()), "another key came")


@case(72, "A multicast key is 401 for those not listed", consumes=True)
async def multicast_stranger(stand: Stand) -> None:
    """Ask as a stranger for a key of several."""
    who = _foreign(stand)
    others = [sae for sae in stand.additional if sae != who][:1]
    if not others or (await stand.limits())["max_SAE_ID_count"] < 1:
        raise SkippedError("needs multicast and the id of an additional slave")
    stand.person(stand.slave, "the slave")
    keys = await stand.take(additional_slave_SAE_IDs=others)
    stand.note_fresh(keys)
    refused(await stand.collect(list(keys), who=who), 401)
    await _still_there(stand, keys)


@case(73, "Errors have a JSON body with a message")
async def error_bodies(stand: Stand) -> None:
    """Look at 400 of all three calls, and at 401 where there is a stranger."""
    refused(await stand.ask({"number": 0}))
    refused(await stand.ask_by_query("number=x"))
    refused(await stand.post("dec_keys", stand.slave, {}))
    if "unregistered" in stand.bad:
        async with KmeLink(stand.place, stand.bad["unregistered"].context()) as link:
            refused(await link.request("GET", path_of(stand.slave, "status")), 401)
