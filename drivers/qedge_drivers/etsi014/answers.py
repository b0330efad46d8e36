"""What a key manager answers, checked: nothing of it is believed."""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass
from typing import Final

from qedge_driver_api import FatalError, FinishedKey, RetriableError
from qedge_drivers.etsi014.https import Reply
from qedge_drivers.etsi014.settings import Etsi014Settings

NOT_FOUND: Final = "not found"
_MAX_TEXT: Final = 200


@dataclass(frozen=True)
class Status:
    """What a status says; sizes are in bits."""

    source_kme_id: str
    target_kme_id: str
    master_sae_id: str
    key_size: int
    stored_key_count: int
    max_key_per_request: int
    min_key_size: int
    max_key_size: int


def status_of(reply: Reply, settings: Etsi014Settings) -> Status:
    """Read a status and see that it is about us."""
    value = _object(reply)
    status = Status(
        _text(value, "source_KME_ID"),
        _text(value, "target_KME_ID"),
        _text(value, "master_SAE_ID"),
        _number(value, "key_size"),
        _number(value, "stored_key_count"),
        _number(value, "max_key_per_request"),
        _number(value, "min_key_size"),
        _number(value, "max_key_size"),
    )
    if settings.sae_id and status.master_sae_id != settings.sae_id:
        raise FatalError(f"The key manager takes us for {status.master_sae_id}, not {settings.sae_id}.")
    if settings.kme_id and status.source_kme_id != settings.kme_id:
        raise FatalError(f"The key manager calls itself {status.source_kme_id}, not {settings.kme_id}.")
    return status


def keys_of(reply: Reply, number: int, size_bits: int) -> tuple[FinishedKey, ...]:
    """Read a key container of `number` keys; `size_bits` 0: of any size."""
    listed = _object(reply).get("keys")
    if not isinstance(listed, list) or len(listed) != number:
        raise FatalError(f"The key manager did not give the {number} keys asked for.")
    keys = []
    for entry in listed:
        key_id, key = (entry.get("key_ID"), entry.get("key")) if isinstance(entry, dict) else (None, None)
        try:
            name, secret = str(uuid.UUID(str(key_id))), base64.b64decode(str(key), validate=True)
        except (ValueError, binascii.Error):
            raise FatalError("The key manager gave a key without a UUID, or not in Base64.") from None
        if not secret or (size_bits and 8 * len(secret) != size_bits):
            raise FatalError("The key manager gave a key of another size.")
        keys.append(FinishedKey(name, secret))
    if len({key.key_id for key in keys}) < len(keys):
        raise FatalError("The key manager gave a key twice.")
    return tuple(keys)


def _object(reply: Reply) -> dict[str, object]:
    told = f": {_printable(reply.message)}" if reply.message else ""
    if reply.status == 401:
        raise FatalError(f"The key manager does not let us{told}.")
    if reply.status == 503:
        raise RetriableError(f"The key manager cannot serve us now{told}.")
    if reply.status != 200:
        raise FatalError(f"The key manager refused with {reply.status}{told}.")
    if not isinstance(reply.value, dict):
        raise FatalError("The key manager's answer is no JSON object.")
    return reply.value


def _text(value: dict[str, object], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise FatalError(f"The key manager's status has no {name}.")
    return _printable(found)


def _number(value: dict[str, object], name: str) -> int:
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        raise FatalError(f"The key manager's status has no {name} that is a number.")
    return found


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:_MAX_TEXT]
