"""Reading requests strictly: what does not have exactly the form of ETSI GS QKD 014 clause 6 is refused with 400.

Python makes two traps: `bool` is an `int`, and `json` takes NaN, duplicate members and lone surrogates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from qedge.qkd.delivery.model import Extension, KeyRequest, bad

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAX_SHOWN: Final = 40

Query = Sequence[tuple[str, str]]
"""Names and values of a query string in order, decoded, repeated ones included."""


def read_object(body: bytes) -> dict[str, object]:
    """Decode a body that has to be one JSON object in UTF-8 without duplicate members; an empty one is `{}`."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_number)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise bad("the request body is not valid JSON in UTF-8, or a member is repeated") from None
    if not isinstance(value, dict):
        raise bad("the request body has to be a JSON object")
    return value


def key_request_of_body(body: bytes) -> KeyRequest:
    """Read the Key request of a POST."""
    members = read_object(body)
    return KeyRequest(
        number=_count(members["number"], "number", 1) if "number" in members else 1,
        size=_count(members["size"], "size", 1) if "size" in members else 0,
        additional=_texts(members.get("additional_slave_SAE_IDs", []), "additional_slave_SAE_IDs"),
        mandatory=_extensions(members.get("extension_mandatory", []), "extension_mandatory"),
        optional=_extensions(members.get("extension_optional", []), "extension_optional"),
    )


def key_request_of_query(query: Query) -> KeyRequest:
    """Read the Key request of a GET: `number` and `size` alone may stand there."""
    values = _once(query, ("number", "size"))
    numbers = {}
    for name, text in values.items():
        if _NUMBER.fullmatch(text) is None or int(text) < 1:
            raise bad(f"{name} shall be an integer of at least 1")
        numbers[name] = int(text)
    return KeyRequest(number=numbers.get("number", 1), size=numbers.get("size", 0))


def key_ids_of_body(body: bytes, limit: int) -> tuple[str, ...]:
    """Read the Key IDs of a POST in lower case: 1 to `limit`, all different."""
    listed = read_object(body).get("key_IDs")
    if not isinstance(listed, list) or not listed:
        raise bad("key_IDs shall be an array of at least one object")
    if len(listed) > limit:
        raise bad(f"key_IDs shall have at most {limit} entries")
    ids = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise bad("every entry of key_IDs shall be an object with the member key_ID")
        ids.append(_key_id(entry.get("key_ID")))
    if len(set(ids)) < len(ids):
        raise bad("a key_ID is repeated")
    return tuple(ids)


def key_ids_of_query(query: Query) -> tuple[str, ...]:
    """Read the one key ID of a GET."""
    values = _once(query, ("key_ID",))
    if not values:
        raise bad("GET needs exactly one key_ID")
    return (_key_id(values["key_ID"]),)


def shown(text: str) -> str:
    """Write foreign text so that it is safe in a message: printable ASCII, short."""
    clean = ascii(text)
    return clean if len(clean) <= _MAX_SHOWN else clean[: _MAX_SHOWN - 1] + "...'"


def _once(query: Query, allowed: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, text in query:
        if name not in allowed:
            raise bad(f"GET takes only {' and '.join(allowed)}; use POST for anything else")
        if name in values:
            raise bad(f"{name} is repeated")
        values[name] = text
    return values


def _count(value: object, name: str, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise bad(f"{name} shall be an integer of at least {low}")
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad(f"{name} shall be an array of strings")
    return tuple(value)


def _extensions(value: object, name: str) -> tuple[Extension, ...]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise bad(f"{name} shall be an array of objects")
    return tuple(Extension(str(key), inner) for item in value for key, inner in item.items())


def _key_id(value: object) -> str:
    if not isinstance(value, str) or _UUID.fullmatch(value.lower()) is None:
        raise bad("key_ID shall be a UUID")
    return value.lower()


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is repeated")
    return members


def _no_number(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
