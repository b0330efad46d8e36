"""TLS 1.3 under a quantum key: OpenSSL's own client and server with an external pre-shared key (RFC 8446 §4.2.11).

    tls_psk.py server --kme https://localhost:8443 --sae bob-files --master alice --id-port 7001 --port 7002
    tls_psk.py client --kme https://localhost:9443 --sae alice-files --slave bob --host HOST --id-port 7001 --port 7002

The client gets a key, tells the server its id, the server gets the same key, and both do a handshake `psk_dhe_ke` whose
identity is the key's id: an ECDHE exchange with the quantum key mixed in, for one connection. Input and output are
those of the connection. The key goes to OpenSSL in a file that only the user may read, never on a command line.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import tempfile
from pathlib import Path

from etsi014 import KeyManager, agree, follow

TLS13 = 0x0304
TLS_AES_256_GCM_SHA384 = b"\x13\x02"


def der(tag: int, content: bytes) -> bytes:
    """Encode one ASN.1 value with its length."""
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x81, size])) + content


def session_file(key: bytes, folder: Path) -> Path:
    """Write a key as the session file that `openssl -psk_session` reads."""
    number = TLS13.to_bytes(2, "big")
    fields = der(2, b"\1") + der(2, number) + der(4, TLS_AES_256_GCM_SHA384) + der(4, b"") + der(4, key)
    text = base64.encodebytes(der(0x30, fields)).decode()
    path = folder / "psk.pem"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"-----BEGIN SSL SESSION PARAMETERS-----\n{text}-----END SSL SESSION PARAMETERS-----\n")
    return path


async def run_openssl(role: str, where: list[str], key_id: str, key: bytes, told: asyncio.StreamWriter | None) -> int:
    """Run `openssl s_client` or `s_server` for one connection under the key."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-tls1_3", "-psk_session", str(session_file(key, Path(folder))), "-psk_identity", key_id, "-quiet"]
        process = await asyncio.create_subprocess_exec("openssl", role, *where, *options)
        if told is not None:
            await asyncio.sleep(0.3)  # s_server has no way to say that it listens
            told.write(b"ok\n")
            told.close()
        return await process.wait()


async def serve(args: argparse.Namespace) -> int:
    """Wait for the id of a key, then for one connection under it."""
    keys = KeyManager(args.kme, args.sae)
    result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key_id, key = await follow(keys, args.master, reader, writer)
        where = ["-accept", str(args.port), "-nocert", "-naccept", "1"]
        result.set_result(await run_openssl("s_server", where, key_id, key, writer))

    async with await asyncio.start_server(greet, "0.0.0.0", args.id_port):  # noqa: S104 - the id is no secret
        return await result


async def connect(args: argparse.Namespace) -> int:
    """Get a key, tell its id, connect."""
    key_id, key = await agree(KeyManager(args.kme, args.sae), args.host, args.id_port, args.slave)
    return await run_openssl("s_client", ["-connect", f"{args.host}:{args.port}"], key_id, key, None)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--kme", required=True, help="URL of the own key manager")
    parser.add_argument("--sae", required=True, type=Path, help="folder with sae.crt, sae.key and kme-ca.crt")
    parser.add_argument("--master", default="", help="SAE id of the client, for the server")
    parser.add_argument("--slave", default="", help="SAE id of the server, for the client")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--id-port", required=True, type=int)
    parser.add_argument("--port", required=True, type=int)
    args = parser.parse_args()
    raise SystemExit(asyncio.run(serve(args) if args.role == "server" else connect(args)))


if __name__ == "__main__":
    main()
