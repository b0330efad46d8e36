"""The two calls of ETSI GS QKD 014 that a consumer of keys needs, over mutual TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from urllib.parse import quote

import aiohttp


class KeyManager:
    """The key manager of one's own node. `folder` holds `sae.crt`, `sae.key` and `kme-ca.crt`."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url.rstrip("/")
        self._tls = ssl.create_default_context(cafile=folder / "kme-ca.crt")
        self._tls.load_cert_chain(folder / "sae.crt", folder / "sae.key")

    async def new_key(self, slave: str) -> tuple[str, bytes]:
        """Get a fresh 256-bit key to share with `slave`; returns its id and its bytes."""
        return await self._post(f"/api/v1/keys/{quote(slave, safe='')}/enc_keys", {"number": 1, "size": 256})

    async def key_of(self, master: str, key_id: str) -> bytes:
        """Get the key that `master` got under this id; only once."""
        body = {"key_IDs": [{"key_ID": key_id}]}
        return (await self._post(f"/api/v1/keys/{quote(master, safe='')}/dec_keys", body))[1]

    async def _post(self, path: str, body: dict[str, object]) -> tuple[str, bytes]:
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(self._url + path, json=body, ssl=self._tls) as response,
        ):
            answer = await response.json(content_type=None)
            if response.status != 200:
                raise RuntimeError(f"the key manager says {response.status}: {answer.get('message', '')}")
            key = answer["keys"][0]
            return key["key_ID"], base64.b64decode(key["key"], validate=True)


async def agree(keys: KeyManager, host: str, port: int, slave: str) -> tuple[str, bytes]:
    """Get a key and tell the other side its id, which is no secret; returns once the other side has the key too."""
    key_id, key = await keys.new_key(slave)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"{key_id}\n".encode())
        if await asyncio.wait_for(reader.readline(), 30) != b"ok\n":
            raise RuntimeError("the other side could not get the key")
    finally:
        writer.close()
    return key_id, key


async def follow(
    keys: KeyManager, master: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[str, bytes]:
    """Learn the id of the next key from the other side and get the key; answer `ok` once it is in use."""
    key_id = (await asyncio.wait_for(reader.readline(), 30)).decode("ascii").strip()
    return key_id, await keys.key_of(master, key_id)
