"""Gives an IPsec tunnel of strongSwan a fresh quantum key as its post-quantum pre-shared key, again and again.

    ipsec_ppk.py follow --kme https://localhost:8443 --sae bob-files --master alice --id-port 7001 \\
        --connection tunnel
    ipsec_ppk.py lead --kme https://localhost:9443 --sae alice-files --slave bob --host 10.0.0.2 --id-port 7001 \\
        --connection tunnel --child net --period 3600

IKEv2 mixes such a key (PPK, RFC 8784) into all keys of a connection when it is authenticated, so a fresh one needs a
new connection: it is made before the old one is taken down. `swanctl.conf` has the connection as usual, without a word
of PPKs; this program writes a file of its own beside it, which adds the key and makes it required. Where anything fails
the old connection stays. The id of a key travels in clear: it is no secret.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from pathlib import Path

from etsi014 import KeyManager, agree, follow

ADDED = """connections {{
  {connection} {{
    ppk_id = {key_id}
    ppk_required = yes
  }}
}}
secrets {{
  ppk-quantum {{
    id = {key_id}
    secret = 0x{key}
  }}
}}
"""


class StrongSwan:
    """The running daemon, by way of `swanctl`. `folder` is that of `swanctl.conf`, which includes `conf.d/*.conf`."""

    def __init__(self, folder: Path, uri: str, connection: str, child: str) -> None:
        self._folder = folder
        self._uri = ["--uri", uri] if uri else []
        self._connection = connection
        self._child = child

    async def set_key(self, key_id: str, key: bytes) -> None:
        """Have new connections use a key; those that stand keep theirs."""
        path = self._folder / "conf.d" / "quantum-key.conf"
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(ADDED.format(connection=self._connection, key_id=key_id, key=key.hex()))
        draft.replace(path)
        for what in ("--load-creds", "--load-conns"):
            await self._swanctl(what, "--file", str(self._folder / "swanctl.conf"))

    async def renew(self) -> None:
        """Make the connection anew, then take the old one down."""
        old = await self._connections()
        await self._swanctl("--initiate", "--ike", self._connection, "--child", self._child, "--timeout", "20")
        for number in old:
            await self._swanctl("--terminate", "--ike-id", number)

    async def _connections(self) -> list[str]:
        listed = await self._swanctl("--list-sas", "--ike", self._connection)
        return re.findall(rf"^{re.escape(self._connection)}: #(\d+), ESTABLISHED", listed, re.MULTILINE)

    async def _swanctl(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "swanctl", *words, *self._uri, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"swanctl {words[0]} failed: {output.decode(errors='replace').strip()[-300:]}")
        return output.decode(errors="replace")


async def lead(args: argparse.Namespace, ipsec: StrongSwan) -> None:
    """Bring a fresh key to both sides every `period` seconds, `rounds` times (0: without end)."""
    keys, done = KeyManager(args.kme, args.sae), 0
    while not args.rounds or done < args.rounds:
        try:
            key_id, key = await agree(keys, args.host, args.id_port, args.slave)
            await ipsec.set_key(key_id, key)
            await ipsec.renew()
            print(f"the tunnel has key {key_id}", flush=True)
            done += 1
        except (OSError, RuntimeError, TimeoutError) as error:
            print(f"no fresh key: {error}", flush=True)
        if done != args.rounds or not args.rounds:
            await asyncio.sleep(args.period)


async def serve(args: argparse.Namespace, ipsec: StrongSwan) -> None:
    """Have each key ready whose id the leader tells."""
    keys = KeyManager(args.kme, args.sae)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            key_id, key = await follow(keys, args.master, reader, writer)
            await ipsec.set_key(key_id, key)
            print(f"key {key_id} is ready", flush=True)
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
    parser.add_argument("--connection", required=True, help="name of the connection in swanctl.conf")
    parser.add_argument("--child", default="", help="name of its child, for the leader")
    parser.add_argument("--swanctl", default="/etc/swanctl", type=Path, help="folder of swanctl.conf")
    parser.add_argument("--uri", default="", help="socket of the daemon, where it is not the usual one")
    parser.add_argument("--period", type=float, default=3600.0, help="seconds between two keys")
    parser.add_argument("--rounds", type=int, default=0)
    args = parser.parse_args()
    ipsec = StrongSwan(args.swanctl, args.uri, args.connection, args.child)
    asyncio.run(lead(args, ipsec) if args.role == "lead" else serve(args, ipsec))


if __name__ == "__main__":
    main()
