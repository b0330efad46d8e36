"""Gives a WireGuard tunnel a fresh quantum key as its pre-shared key, again and again.

    wireguard_psk.py follow --kme https://localhost:8443 --sae bob-files --master alice --id-port 7001 \\
        --interface wg0 --peer PUBLIC_KEY_OF_THE_OTHER_SIDE
    wireguard_psk.py lead --kme https://localhost:9443 --sae alice-files --slave bob --host 10.0.0.2 --id-port 7001 \\
        --interface wg0 --peer PUBLIC_KEY_OF_THE_OTHER_SIDE --period 120

WireGuard mixes the pre-shared key into its own key exchange (Noise IKpsk2), from its next handshake on, which comes
within two minutes. The leader gets a key, the follower the same one by its id, sets it and says so, then the leader
sets it. Where anything fails both keep the key they have. The id travels in clear: it is no secret.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import tempfile
from pathlib import Path

from etsi014 import KeyManager, agree, follow


async def set_key(interface: str, peer: str, key: bytes) -> None:
    """Hand a key to `wg` in a file that only the user may read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "psk"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.b64encode(key).decode() + "\n")
        process = await asyncio.create_subprocess_exec("wg", "set", interface, "peer", peer, "preshared-key", str(path))
        if await process.wait():
            raise RuntimeError("wg did not take the key")


async def lead(args: argparse.Namespace) -> None:
    """Bring a fresh key to both sides every `period` seconds, `rounds` times (0: without end)."""
    keys, done = KeyManager(args.kme, args.sae), 0
    while not args.rounds or done < args.rounds:
        try:
            key_id, key = await agree(keys, args.host, args.id_port, args.slave)
            await set_key(args.interface, args.peer, key)
            print(f"key {key_id} is set", flush=True)
            done += 1
        except (OSError, RuntimeError, TimeoutError) as error:
            print(f"no fresh key: {error}", flush=True)
        if done != args.rounds or not args.rounds:
            await asyncio.sleep(args.period)


async def serve(args: argparse.Namespace) -> None:
    """Set each key whose id the leader tells."""
    keys = KeyManager(args.kme, args.sae)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            key_id, key = await follow(keys, args.master, reader, writer)
            await set_key(args.interface, args.peer, key)
            print(f"key {key_id} is set", flush=True)
            writer.write(b"ok\n")
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            print(f"no fresh key: {error}", flush=True)
            writer.write(b"no\n")
        writer.close()

    async with await asyncio.start_server(greet, "0.0.0.0", args.id_port) as server:  # noqa: S104 - the id is no secret
        await server.serve_forever()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("role", choices=("lead", "follow"))
    parser.add_argument("--kme", required=True, help="URL of the own key manager")
    parser.add_argument("--sae", required=True, type=Path, help="folder with sae.crt, sae.key and kme-ca.crt")
    parser.add_argument("--master", default="", help="SAE id of the leader, for the follower")
    parser.add_argument("--slave", default="", help="SAE id of the follower, for the leader")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--id-port", required=True, type=int)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--peer", required=True, help="WireGuard public key of the other side")
    parser.add_argument("--period", type=float, default=120.0, help="seconds between two keys")
    parser.add_argument("--rounds", type=int, default=0)
    args = parser.parse_args()
    asyncio.run(lead(args) if args.role == "lead" else serve(args))


if __name__ == "__main__":
    main()
