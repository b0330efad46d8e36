"""A key manager (KME) as a Python object: the three calls of ETSI GS QKD 014 V1.1.1, for an application (SAE).

async with KmeClient("https://kme:8443", Credentials(certificate, key, authorities)) as kme:
    keys = await kme.get_keys("bob", number=2, size=256)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote, unquote

import msgspec

from qedge.base.errors import QedgeError
from qedge.client.kme_link import Credentials, KmeLink, Reply, place_of

T = TypeVar("T")
ROOT: Final = "/api/v1/keys/"


class KmeStatus(msgspec.Struct, frozen=True):
    """The eleven members of Status that every key manager has."""

    source_KME_ID: str  # noqa: N815 - the standard's own names
    target_KME_ID: str  # noqa: N815 - as above
    master_SAE_ID: str  # noqa: N815 - as above
    slave_SAE_ID: str  # noqa: N815 - as above
    key_size: int
    stored_key_count: int
    max_key_count: int
    max_key_per_request: int
    max_key_size: int
    min_key_size: int
    max_SAE_ID_count: int  # noqa: N815 - as above


class KmeKey(msgspec.Struct, frozen=True):
    """One key: `key_ID` its UUID, `key` Base64 of the secret."""

    key_ID: str  # noqa: N815 - the standard's own names
    key: str
    key_extension: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"KmeKey({self.key_ID})"

    @property
    def secret(self) -> bytes:
        """Return the bytes; raises `client.data`."""
        try:
            return base64.b64decode(self.key, validate=True)
        except binascii.Error as error:
            raise QedgeError("client.data", "The key manager gave a key that is no Base64.") from error


class KeyContainer(msgspec.Struct, frozen=True):
    """Keys as they were handed over."""

    keys: tuple[KmeKey, ...]
    key_container_extension: dict[str, object] = {}


class KmeError(msgspec.Struct, frozen=True):
    """The Error body."""

    message: str
    details: tuple[dict[str, object], ...] = ()


class KmeClient:
    """Speaks as one application to one key manager; `kme_id` is what its certificate must say, empty: anything."""

    def __init__(self, url: str, credentials: Credentials, *, kme_id: str = "", timeout_s: float = 10.0) -> None:
        self._kme_id = kme_id
        self._link = KmeLink(place_of(url), credentials.context(), timeout_s=timeout_s, check_server=self._check_server)

    async def __aenter__(self) -> KmeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def status(self, slave: str) -> KmeStatus:
        """Ask what is there for keys with `slave`."""
        return _decode(await self._link.request("GET", path_of(slave, "status")), KmeStatus)

    async def get_keys(
        self,
        slave: str,
        *,
        number: int = 1,
        size: int = 0,
        additional: Sequence[str] = (),
        mandatory: Mapping[str, object] | None = None,
        optional: Mapping[str, object] | None = None,
    ) -> KeyContainer:
        """Take fresh keys that `slave` and all `additional` may collect; `size` in bits, 0: the usual one."""
        wanted: dict[str, object] = {"number": number}
        if size:
            wanted["size"] = size
        if additional:
            wanted["additional_slave_SAE_IDs"] = list(additional)
        for name, values in (("extension_mandatory", mandatory), ("extension_optional", optional)):
            if values:
                wanted[name] = [{key: value} for key, value in values.items()]
        reply = await self._link.request("POST", path_of(slave, "enc_keys"), msgspec.json.encode(wanted))
        return _decode(reply, KeyContainer)

    async def get_keys_with_ids(self, master: str, key_ids: Sequence[str]) -> KeyContainer:
        """Collect keys that `master` took."""
        body = msgspec.json.encode({"key_IDs": [{"key_ID": key_id} for key_id in key_ids]})
        return _decode(await self._link.request("POST", path_of(master, "dec_keys"), body), KeyContainer)

    def _check_server(self, uris: Sequence[str]) -> None:
        if self._kme_id and self._kme_id not in [unquote(uri) for uri in uris]:
            raise QedgeError(
                "auth.untrusted",
                f"The key manager's certificate is not that of {self._kme_id}.",
                fix="Look at the address and at the id.",
            )


def path_of(sae_id: str, call: str) -> str:
    """Return the path of a call; the id is percent-encoded."""
    return f"{ROOT}{quote(sae_id, safe='')}/{call}"


def _decode(reply: Reply, kind: type[T]) -> T:
    if reply.status != 200:
        try:
            message = msgspec.json.decode(reply.body, type=KmeError).message
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = "no reason given"
        raise QedgeError(
            "keys.refused", f"The key manager refused with {reply.status}: {message}.", status=reply.status
        )
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise QedgeError("client.data", "The key manager's answer is not what ETSI GS QKD 014 says.") from None
