"""The three calls of ETSI GS QKD 014 as rules: who asks, what for, may they, and what is the answer.

Order of checks: form (400), parties (400), right (401), the node's limits (400), the caller's limit (503), store.
Identity is an argument that the transport took from a certificate; nothing in a request can change it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.qkd.delivery import extensions
from qedge.qkd.delivery.config import DeliveryConfig
from qedge.qkd.delivery.model import BAD_SIZE, NOT_FOUND, KeyRequest, RefusalError, Sae, bad
from qedge.qkd.delivery.ports import Constraints, DeliverableKey, Holder, KeyOrder, KeyVault, StoredStatus
from qedge.qkd.delivery.registry import Registry, id_of

RETRY_S: Final = 1
_BURST_S: Final = 10.0
"""An application may ask at once for what its rate gives in this time."""

_REFUSALS: Final[dict[str, tuple[int, str]]] = {
    "qkd.too_few_bits": (503, "not enough keys are stored for this request"),
    "qkd.unmeetable": (400, ""),
    "qkd.key_not_found": (400, NOT_FOUND),
    "qkd.key_not_yours": (401, "the SAE is not among those that one or more of the keys are for"),
    "qkd.no_link": (503, "no QKD link leads to the KME of a slave SAE"),
    "store.disk_full": (503, "the KME has no room to write the hand-over down"),
}
_AWAY: Final = (503, "the KME of a slave SAE cannot be reached now")


@dataclass(slots=True)
class _Allowance:
    """A token bucket in keys."""

    keys: float
    at_ns: int


class KeyDesk:
    """Answers for one node; `transport` says how the hop between application and node is protected."""

    def __init__(
        self, config: DeliveryConfig, registry: Registry, vault: KeyVault, *, clock: Clock, transport: str = "classical"
    ) -> None:
        self.config = config
        self.registry = registry
        self._vault = vault
        self._clock = clock
        self._transport = transport
        self._allowances: dict[str, _Allowance] = {}

    @property
    def kme_id(self) -> str:
        """Return this node's KME id."""
        return self._kme(self.registry.node)

    def identify(self, uris: Sequence[str], common_name: str = "") -> Sae:
        """Tell whose certificate it is: exactly one URI, and that of an application of this node; else 401."""
        if len(uris) > 1:
            raise RefusalError(401, "the certificate names more than one SAE")
        if not uris and not (self.config.common_name and common_name):
            raise RefusalError(401, "the certificate names no SAE")
        sae = self.registry.local(id_of(uris[0]) if uris else common_name)
        if sae is None:
            raise RefusalError(401, "the certificate is not of an SAE that is registered at this KME")
        return sae

    async def stored(self, master_id: str, slave: Holder) -> StoredStatus:
        """Tell what a pair may have, for the operator; raises what the store raises."""
        return await self._vault.status(master_id, slave)

    async def status(self, master: Sae, slave_id: str) -> dict[str, object]:
        """Answer `status`."""
        slave = self._slave(slave_id)
        permitted = self.registry.permits(master, slave)
        if not permitted:
            raise _not_permitted()
        config = self.config
        try:
            stored = await self._vault.status(master.id, Holder(slave.id, slave.node))
        except QedgeError as error:
            raise refusal_of(error) from error
        return {
            "source_KME_ID": self._kme(master.node),
            "target_KME_ID": self._kme(slave.node),
            "master_SAE_ID": master.id,
            "slave_SAE_ID": slave.id,
            "key_size": config.key_size_bits,
            "stored_key_count": min(config.max_key_count, stored.bits // config.key_size_bits),
            "max_key_count": config.max_key_count,
            "max_key_per_request": self._most_keys(master),
            "max_key_size": config.max_key_size_bits,
            "min_key_size": config.min_key_size_bits,
            "max_SAE_ID_count": config.max_additional_saes,
            "status_extension": extensions.status_extension(stored, permitted=permitted, transport=self._transport),
        }

    async def get_keys(self, master: Sae, slave_id: str, request: KeyRequest) -> dict[str, object]:
        """Answer `Get key`: fresh keys for the master, of which every slave may collect a copy."""
        slaves = self._slaves(slave_id, request.additional)
        if not all(self.registry.permits(master, slave) for slave in slaves):
            raise _not_permitted()
        size = self._size(request.size)
        if request.number > self._most_keys(master):
            raise bad(f"number shall be at most {self._most_keys(master)}")
        demands = extensions.demands(request.mandatory)
        wishes = extensions.wishes(demands, request.optional)
        self._spend(master, request.number)
        holders = tuple(Holder(slave.id, slave.node) for slave in slaves)
        order = KeyOrder(master.id, holders, request.number, size, wishes)
        keys = await self._reserve(order, demands, [extension.name for extension in request.mandatory])
        return _container(keys)

    async def get_keys_with_ids(self, slave: Sae, master_id: str, key_ids: tuple[str, ...]) -> dict[str, object]:
        """Answer `Get key with key IDs`."""
        master = self.registry.find(master_id)
        if master is None:
            raise bad("the master SAE is not known to this KME")
        try:
            return _container(await self._vault.collect(slave.id, master.id, key_ids))
        except QedgeError as error:
            raise refusal_of(error) from error

    def max_key_ids(self, sae: Sae) -> int:
        """Return how many keys one request of this application may name."""
        return self._most_keys(sae)

    async def _reserve(self, order: KeyOrder, demands: Constraints, names: Sequence[str]) -> tuple[DeliverableKey, ...]:
        """Ask with all wishes, and where they cannot be met with what was demanded only."""
        try:
            return await self._vault.reserve(order)
        except QedgeError as error:
            if error.code != "qkd.unmeetable" or order.constraints == demands:
                raise self._unmet_or(error, names) from error
        plain = KeyOrder(order.master, order.slaves, order.number, order.size_bits, demands)
        try:
            return await self._vault.reserve(plain)
        except QedgeError as error:
            raise self._unmet_or(error, names) from error

    @staticmethod
    def _unmet_or(error: QedgeError, names: Sequence[str]) -> Exception:
        return extensions.unmet(*names) if error.code == "qkd.unmeetable" else refusal_of(error)

    def _slave(self, sae_id: str) -> Sae:
        slave = self.registry.find(sae_id)
        if slave is None:
            raise bad("the slave SAE is not known to this KME")
        return slave

    def _slaves(self, slave_id: str, additional: tuple[str, ...]) -> tuple[Sae, ...]:
        others = tuple(each for each in dict.fromkeys(additional) if each != slave_id)
        if len(others) > self.config.max_additional_saes:
            raise bad(f"additional_slave_SAE_IDs shall have at most {self.config.max_additional_saes} entries")
        first = self._slave(slave_id)
        found = [self.registry.find(each) for each in others]
        if not all(found):
            raise bad("one or more additional slave SAEs are not known to this KME")
        return (first, *(sae for sae in found if sae is not None))

    def _size(self, size: int) -> int:
        config = self.config
        size = size or config.key_size_bits
        if size % 8:
            raise bad(BAD_SIZE)
        if not config.min_key_size_bits <= size <= config.max_key_size_bits:
            raise bad(f"size shall be {config.min_key_size_bits} to {config.max_key_size_bits}")
        return size

    def _most_keys(self, sae: Sae) -> int:
        limit = self.config.max_keys_per_request
        return min(limit, sae.max_keys_per_request) if sae.max_keys_per_request else limit

    def _kme(self, node: str) -> str:
        return self.config.kme_ids.get(node, node)

    def _spend(self, sae: Sae, number: int) -> None:
        """Take `number` keys off the application's allowance, or refuse until there are so many again."""
        rate = sae.max_keys_per_s
        if not rate:
            return
        now_ns = self._clock.now_ns()
        most = max(rate * _BURST_S, 1.0 * number)
        held = self._allowances.get(sae.name) or _Allowance(most, now_ns)
        keys = min(most, held.keys + rate * (now_ns - held.at_ns) / 1e9)
        if keys < number:
            self._allowances[sae.name] = _Allowance(keys, now_ns)
            raise RefusalError(
                503, "the SAE asked for more keys than it may have now", retry_s=1 + int((number - keys) / rate)
            )
        self._allowances[sae.name] = _Allowance(keys - number, now_ns)


def refusal_of(error: QedgeError) -> RefusalError:
    """Say an error of the store in the words of the interface; what has none there is 503."""
    unknown = _AWAY if error.code.startswith("peer.") else (503, "the KME cannot serve this request now")
    status, message = _REFUSALS.get(error.code, unknown)
    return RefusalError(status, message or error.message, retry_s=RETRY_S if status == 503 else 0)


def _not_permitted() -> RefusalError:
    return RefusalError(401, "the SAE is not permitted to share keys with one or more of the slave SAEs")


def _container(keys: Sequence[DeliverableKey]) -> dict[str, object]:
    return {
        "keys": [
            {
                "key_ID": key.key_id,
                "key": b64encode(key.key).decode("ascii"),
                "key_extension": extensions.key_extension(key.provenance),
            }
            for key in keys
        ],
        "key_container_extension": extensions.container_extension(keys),
    }
