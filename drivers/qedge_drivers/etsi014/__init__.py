"""Finished keys of a vendor's key manager (KME), by ETSI GS QKD 014 over mutual TLS.

One end takes keys as the master SAE, the other collects the same keys by their ids as the slave SAE. Each end speaks to
its own key manager; how these share keys is the vendor's matter.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from qedge_driver_api import (
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    FinishedKey,
    Health,
    OperatingState,
    Property,
    RetriableError,
    settings_schema,
)
from qedge_drivers.etsi014.answers import NOT_FOUND, Status, keys_of, status_of
from qedge_drivers.etsi014.https import Kme
from qedge_drivers.etsi014.settings import Etsi014Settings, check

STATUS_AGE_S: Final = 5.0
"""`health` asks the key manager again when what it said is older."""

_MAX_KEPT: Final = 4096
_MAX_REMEMBERED: Final = 65_536
"""Ids of keys that were taken, some 10 MB: none of them may come again."""


def _never() -> bool:
    return False


class Etsi014:
    """Implements `QkdKeySource`."""

    Settings = Etsi014Settings

    def __init__(self, settings: Etsi014Settings) -> None:
        check(settings)
        self._settings = settings
        self._kme: Kme | None = None
        self._status: Status | None = None
        self._asked_s = 0.0
        self._fault = ""
        self._cancelled: Callable[[], bool] = _never
        self._spare: dict[int, deque[FinishedKey]] = {}
        self._collected: dict[str, FinishedKey] = {}
        self._given: dict[str, None] = {}

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is."""
        return DriverInfo(
            name="etsi014",
            kind=DriverKind.QKD,
            version="1.0",
            summary="Keys of a vendor's key manager by ETSI GS QKD 014, over HTTPS with certificates on both sides.",
            settings=settings_schema(Etsi014Settings),
        )

    def probe(self) -> None:
        """Ask for the status once."""
        kme = Kme(self._settings)
        try:
            status_of(kme.get(self._settings.peer_sae, "status"), self._settings)
        finally:
            kme.close()

    def open(self, context: DriverContext) -> None:
        """Read certificates and ask for the status."""
        self.close()
        self._cancelled = context.cancelled
        self._kme = Kme(self._settings)
        try:
            self._ask_status()
        except (RetriableError, FatalError):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; keys that were taken and not handed on are forgotten."""
        if self._kme is not None:
            self._kme.close()
        self._kme, self._status = None, None
        self._spare.clear()
        self._collected.clear()

    def health(self) -> Health:
        """Up while the key manager answers and has keys."""
        if self._kme is None:
            return Health(OperatingState.DOWN, "not open")
        if time.monotonic() - self._asked_s > STATUS_AGE_S:
            try:
                self._ask_status()
            except (RetriableError, FatalError) as error:
                self._fault = str(error)
        age_s = time.monotonic() - self._asked_s
        if self._fault or self._status is None:
            return Health(OperatingState.DEGRADED, self._fault, age_s)
        if self._status.stored_key_count == 0:
            return Health(OperatingState.DEGRADED, "the key manager has no keys", age_s)
        return Health(OperatingState.UP, data_age_s=age_s)

    def properties(self) -> Mapping[str, Property]:
        """Facts about the key manager."""
        facts: dict[str, Property] = {"url": self._settings.url, "peer_sae": self._settings.peer_sae}
        if self._status is not None:
            facts |= {
                "kme_id": self._status.source_kme_id,
                "peer_kme_id": self._status.target_kme_id,
                "sae_id": self._status.master_sae_id,
                "stored_keys": self._status.stored_key_count,
                "key_size_bits": self._status.key_size,
                "min_key_size_bits": self._status.min_key_size,
                "max_key_size_bits": self._status.max_key_size,
                "max_keys_per_request": self._status.max_key_per_request,
            }
        if self._kme is not None and self._kme.tls_version:
            facts["tls"] = self._kme.tls_version
        return facts

    def take(self, number: int, size_bits: int) -> tuple[FinishedKey, ...]:
        """Take new keys as master; those of a request that failed half-way are handed out first by the next."""
        status = self._open_status()
        if number < 1 or size_bits % 8 or not status.min_key_size <= size_bits <= status.max_key_size:
            raise FatalError(
                f"This key manager gives keys of {status.min_key_size} to {status.max_key_size} bits, whole bytes."
            )
        spare = self._spare.setdefault(size_bits, deque(maxlen=_MAX_KEPT))
        while len(spare) < number:
            if self._cancelled():
                raise RetriableError("The call was cancelled.")
            wanted = min(number - len(spare), max(1, status.max_key_per_request), _MAX_KEPT - len(spare))
            if wanted < 1:
                raise FatalError(f"At most {_MAX_KEPT} keys are taken at once.")
            body = {"number": wanted, "size": size_bits}
            reply = self._open_kme().post(self._settings.peer_sae, "enc_keys", body)
            spare.extend(self._new(keys_of(reply, wanted, size_bits)))
        return tuple(spare.popleft() for _ in range(number))

    def take_by_id(self, key_ids: tuple[str, ...]) -> tuple[FinishedKey, ...]:
        """Collect keys as slave; those of a call that failed half-way are kept for its repetition."""
        status = self._open_status()
        missing = [key_id for key_id in dict.fromkeys(key_ids) if key_id.lower() not in self._collected]
        most = max(1, status.max_key_per_request)
        for first in range(0, len(missing), most):
            if self._cancelled():
                raise RetriableError("The call was cancelled.")
            part = missing[first : first + most]
            body = {"key_IDs": [{"key_ID": key_id} for key_id in part]}
            reply = self._open_kme().post(self._settings.peer_sae, "dec_keys", body)
            if reply.status == 400 and NOT_FOUND in reply.message:
                raise RetriableError("The key manager does not have one of the keys, or not yet.")
            given = {key.key_id.lower(): key for key in keys_of(reply, len(part), 0)}
            if given.keys() != {key_id.lower() for key_id in part}:
                raise FatalError("The key manager answered with other keys than those asked for.")
            self._collected |= given
            while len(self._collected) > max(_MAX_KEPT, len(key_ids)):  # of calls that nobody repeated
                del self._collected[next(iter(self._collected))]
        found = [self._collected.get(key_id.lower()) for key_id in key_ids]
        if not all(found):
            raise FatalError("The key manager answered with other keys than those asked for.")
        for key_id in key_ids:
            self._collected.pop(key_id.lower(), None)
        return tuple(key for key in found if key is not None)

    def _new(self, keys: tuple[FinishedKey, ...]) -> tuple[FinishedKey, ...]:
        """See that no key comes a second time, in another answer: each may be used once."""
        if any(key.key_id in self._given for key in keys):
            raise FatalError("The key manager gave a key again that it had given before.")
        self._given |= dict.fromkeys(key.key_id for key in keys)
        while len(self._given) > _MAX_REMEMBERED:
            del self._given[next(iter(self._given))]
        return keys

    def _open_kme(self) -> Kme:
        if self._kme is None:
            raise RetriableError("The driver is not open.")
        return self._kme

    def _open_status(self) -> Status:
        return self._status if self._status is not None else self._ask_status()

    def _ask_status(self) -> Status:
        self._asked_s = time.monotonic()
        status = status_of(self._open_kme().get(self._settings.peer_sae, "status"), self._settings)
        self._status, self._fault = status, ""
        return status
