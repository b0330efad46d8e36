"""Cases 24 to 42: Get key."""

from __future__ import annotations

import base64
import binascii
import math
import re
import uuid
from typing import Final

from qedge.client.kme import path_of
from qedge.client.probe.case import case
from qedge.client.probe.stand import BAD_SIZE, Stand, number, refused
from qedge.client.probe.verdict import FailedError, SkippedError, WarnedError, expect

SAMPLE: Final = 512
"""Keys over which cases 37 to 39 look."""

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DEVIATIONS: Final = 5.0


def secret(key: str) -> bytes:
    """Decode a key, which has to be standard Base64 with padding."""
    expect(_BASE64.fullmatch(key), "a key is not standard Base64 with padding")
    try:
        return base64.b64decode(key, validate=True)
    except binascii.Error:
        raise FailedError("a key is no Base64") from None


def lengths(keys: dict[str, str], count: int, bits: int) -> None:
    """See that there are `count` keys of `bits` bits."""
    expect(len(keys) == count, f"{count} keys expected, got {len(keys)}")
    found = {8 * len(secret(key)) for key in keys.values()}
    expect(found == {bits}, f"keys of {bits} bits expected, got {sorted(found)}")


@case(24, "GET without a query: one key of key_size", consumes=True)
async def plain_get(stand: Stand) -> None:
    """Ask for nothing in particular."""
    keys = stand.keys_in(await stand.ask_by_query(""))
    stand.note_fresh(keys)
    lengths(keys, 1, (await stand.limits())["key_size"])


@case(25, "POST {}: the same", consumes=True)
async def plain_post(stand: Stand) -> None:
    """Ask for nothing in particular."""
    keys = stand.keys_in(await stand.ask({}))
    stand.note_fresh(keys)
    lengths(keys, 1, (await stand.limits())["key_size"])


async def _three_of(stand: Stand) -> int:
    limits = await stand.limits()
    if limits["max_key_per_request"] < 3:
        raise SkippedError("max_key_per_request is below 3")
    return 1024 if limits["min_key_size"] <= 1024 <= limits["max_key_size"] else limits["key_size"]


@case(26, "GET number=3&size=1024", consumes=True)
async def three_by_get(stand: Stand) -> None:
    """Ask for three."""
    size = await _three_of(stand)
    keys = stand.keys_in(await stand.ask_by_query(f"number=3&size={size}"))
    stand.note_fresh(keys)
    lengths(keys, 3, size)


@case(27, "POST number 3, size 1024", consumes=True)
async def three_by_post(stand: Stand) -> None:
    """Ask for three."""
    size = await _three_of(stand)
    keys = stand.keys_in(await stand.ask({"number": 3, "size": size}))
    stand.note_fresh(keys)
    lengths(keys, 3, size)


@case(28, "number = max_key_per_request is accepted", consumes=True)
async def most_keys(stand: Stand) -> None:
    """Ask for all that one request may have."""
    limits = await stand.limits()
    reply = await stand.ask({"number": limits["max_key_per_request"], "size": limits["min_key_size"]})
    if reply.status == 503:
        raise SkippedError("the pool is too small for it")
    keys = stand.keys_in(reply)
    stand.note_fresh(keys)
    lengths(keys, limits["max_key_per_request"], limits["min_key_size"])


@case(29, "number = max + 1 is 400")
async def too_many(stand: Stand) -> None:
    """Ask for one more."""
    refused(await stand.ask({"number": (await stand.limits())["max_key_per_request"] + 1}))


@case(30, "number 0 and -1 are 400")
async def too_few(stand: Stand) -> None:
    """Ask for none, and for less."""
    for value in (0, -1):
        refused(await stand.ask({"number": value}))
        refused(await stand.ask_by_query(f"number={value}"))


@case(31, "number true, a string, a fraction and null are 400")
async def wrong_types(stand: Stand) -> None:
    """Send what is no integer."""
    for name in ("number", "size"):
        wrong: tuple[object, ...] = (True, "3", 3.5, None, [3], {})
        for value in wrong:
            try:
                refused(await stand.ask({name: value}))
            except FailedError as error:
                raise FailedError(f"{name} {value!r}: {error}") from None


@case(32, "size = min and size = max are accepted", consumes=True)
async def extreme_sizes(stand: Stand) -> None:
    """Ask for the smallest and the largest."""
    limits = await stand.limits()
    for size in (limits["min_key_size"], limits["max_key_size"]):
        keys = await stand.take(size=size)
        stand.note_fresh(keys)
        lengths(keys, 1, size)


@case(33, "size beyond min and max is 400")
async def sizes_beyond(stand: Stand) -> None:
    """Ask for a smaller one, and for a larger one."""
    limits = await stand.limits()
    for size in (limits["min_key_size"] - 8, limits["max_key_size"] + 8):
        refused(await stand.ask({"size": size}))


@case(34, "size 257 is 400 with the exact text", consumes=True)
async def odd_size(stand: Stand) -> None:
    """Ask for no whole number of bytes."""
    limits = await stand.limits()
    size = 257 if limits["min_key_size"] <= 257 <= limits["max_key_size"] else limits["key_size"] + 1
    reply = await stand.ask({"size": size})
    if reply.status == 200:
        stand.note_fresh(stand.keys_in(reply))
        raise WarnedError("sizes that are no multiple of 8 are given out, which the standard allows")
    refused(reply, 400, exact=BAD_SIZE)


@case(35, "GET number=abc and a repeated number are 400")
async def bad_queries(stand: Stand) -> None:
    """Ask in a wrong way."""
    for query in ("number=abc", "number=1&number=2", "size=x", "number=1.0", "number="):
        try:
            refused(await stand.ask_by_query(query))
        except FailedError as error:
            raise FailedError(f"?{query}: {error}") from None


@case(36, "Malformed bodies are 400")
async def bad_bodies(stand: Stand) -> None:
    """Send what is no JSON object in UTF-8."""
    deep = b'{"number":' + b"[" * 20_000
    for what, body in (
        ("malformed JSON", b'{"number": 1'),
        ("an array", b"[]"),
        ("a number", b"3"),
        ("a member twice", b'{"number": 1, "number": 2}'),
        ("wrong UTF-8", b'{"number": 1, "a": "\xff"}'),
        ("NaN", b'{"number": NaN}'),
        ("deep nesting", deep),
        ("a number of many digits", b'{"number": ' + b"9" * 5000 + b"}"),
    ):
        try:
            refused(await stand.ask(body))
        except FailedError as error:
            raise FailedError(f"{what}: {error}") from None


async def _sample(stand: Stand) -> None:
    limits = await stand.limits()
    each = min(limits["max_key_per_request"], 64)
    while sum(len(key) >= 24 for key in stand.seen.values()) < SAMPLE:
        reply = await stand.ask({"number": each, "size": max(128, limits["min_key_size"])})
        if reply.status == 503:
            break
        stand.note_fresh(stand.keys_in(reply))
    if len(stand.seen) < 16:
        raise SkippedError("the pool is too small")


@case(37, "key_ID is a UUID and unique", consumes=True)
async def key_ids(stand: Stand) -> None:
    """Look at every key of this run."""
    await _sample(stand)
    for key_id in stand.seen:
        try:
            sound = str(uuid.UUID(key_id)) == key_id.lower()
        except ValueError:
            sound = False
        expect(sound, "a key_ID is no UUID")


@case(38, "Keys are standard Base64, padded", consumes=True)
async def encoding(stand: Stand) -> None:
    """Decode every key of this run."""
    await _sample(stand)
    for key in stand.seen.values():
        secret(key)


@case(39, "Keys differ and look random", consumes=True)
async def randomness(stand: Stand) -> None:
    """Count ones, and pairs of neighbours that are equal, over all keys of this run."""
    await _sample(stand)
    data = b"".join(secret(key) for key in stand.seen.values())
    value, bits = int.from_bytes(data, "big"), 8 * len(data)
    for what, ones in (("ones", value.bit_count()), ("changes", (value ^ (value >> 1)).bit_count())):
        deviations = abs(ones - bits / 2) / math.sqrt(bits / 4)
        expect(deviations < _DEVIATIONS, f"the number of {what} is {deviations:.1f} standard deviations off")


@case(40, "A pool too small is 503, and nothing is taken", consumes=True)
async def small_pool(stand: Stand) -> None:
    """Ask for more than there is, where the limits of one request let that be asked."""
    limits = await stand.limits()
    before = number(await stand.status(), "stored_key_count")
    most = limits["max_key_per_request"] * limits["max_key_size"] // limits["key_size"]
    if before >= most:
        raise SkippedError("the pool holds more than one request may ask for")
    reply = await stand.ask({"number": limits["max_key_per_request"], "size": limits["max_key_size"]})
    refused(reply, 503)
    if "retry-after" not in reply.headers:
        raise WarnedError("Retry-After would tell clients when to come again")
    after = number(await stand.status(), "stored_key_count")
    expect(after >= before, f"{before} keys before and {after} after")


@case(41, "An unknown slave is 400")
async def unknown_slave(stand: Stand) -> None:
    """Ask for keys with nobody."""
    reply = await stand.link().request("POST", path_of("probe-nobody-has-this-id", "enc_keys"), b"{}")
    refused(reply, 400)
