"""The example for IPsec with the true strongSwan: two daemons in network namespaces, and ESP between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.test_key_examples import SmallKeyManager, _end, _free_port, _start, manager

__all__ = ["manager"]

CHARON = Path("/usr/lib/ipsec/charon")
PLUGINS = Path("/usr/lib/ipsec/plugins")
SIDES = {"lead": ("1", "2"), "follow": ("2", "1")}
"""Last number of the own address and of the other side's."""

DAEMON = """charon {{
  load = random nonce openssl hmac kdf pem pubkey x509 kernel-libipsec kernel-netlink socket-default vici
  filelog {{
    stderr {{
      default = 1
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{folder}/vici
    }}
  }}
}}
"""
TUNNEL = """include conf.d/*.conf
connections {{
  tunnel {{
    version = 2
    local_addrs = 10.99.0.{me}
    remote_addrs = 10.99.0.{other}
    encap = yes
    proposals = aes256gcm16-prfsha384-ecp384
    local {{
      auth = psk
      id = side-{me}
    }}
    remote {{
      auth = psk
      id = side-{other}
    }}
    children {{
      net {{
        esp_proposals = aes256gcm16
        local_ts = 10.99.1.{me}/32
        remote_ts = 10.99.1.{other}/32
      }}
    }}
  }}
}}
secrets {{
  ike-sides {{
    id-1 = side-1
    id-2 = side-2
    secret = "known to both"
  }}
}}
"""
RECEIVE = "import socket; s = socket.socket(type=2); s.bind(('10.99.1.2', 9)); s.settimeout(15); print(s.recv(99))"
SEND = "import socket; s = socket.socket(type=2); [s.sendto(b'under ESP', ('10.99.1.2', 9)) for _ in range(3)]"


def missing() -> str:
    """Say what a run needs and this machine lacks."""
    if os.geteuid():
        return "only root makes network namespaces"
    if not CHARON.exists() or shutil.which("swanctl") is None or shutil.which("ip") is None:
        return "strongswan-charon, strongswan-swanctl or iproute2 is not installed"
    needed = ("kernel-libipsec", "openssl", "vici")
    if not all((PLUGINS / f"libstrongswan-{name}.so").exists() for name in needed):
        return "libcharon-extra-plugins or libstrongswan-standard-plugins is not installed"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun for ESP outside the kernel"
    name = f"qedge-{uuid.uuid4().hex[:6]}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@pytest.fixture
def namespaces() -> Iterator[dict[str, str]]:
    """Two network namespaces with a wire between them."""
    if reason := missing():
        pytest.skip(reason)
    mark = uuid.uuid4().hex[:6]
    names = {side: f"qedge-{mark}-{number}" for side, (number, _) in SIDES.items()}

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names.values():
            ip("netns", "add", name)
        first, second = names.values()
        ip("link", "add", f"q{mark}1", "netns", first, "type", "veth", "peer", "name", f"q{mark}2", "netns", second)
        for side, (number, _) in SIDES.items():
            ip("-n", names[side], "addr", "add", f"10.99.0.{number}/24", "dev", f"q{mark}{number}")
            ip("-n", names[side], "addr", "add", f"10.99.1.{number}/32", "dev", "lo")
            for device in ("lo", f"q{mark}{number}"):
                ip("-n", names[side], "link", "set", device, "up")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextlib.asynccontextmanager
async def charons(folder: Path, namespaces: dict[str, str]) -> AsyncIterator[dict[str, Path]]:
    """Run a daemon on each side; gives the folders with their configurations."""
    folders: dict[str, Path] = {}
    running: list[asyncio.subprocess.Process] = []
    try:
        for side, (me, other) in SIDES.items():
            home = folders[side] = folder / side
            (home / "conf.d").mkdir(parents=True)
            (home / "strongswan.conf").write_text(DAEMON.format(folder=home))
            (home / "swanctl.conf").write_text(TUNNEL.format(me=me, other=other))
            with (home / "log").open("wb") as log:
                running.append(
                    await asyncio.create_subprocess_exec(
                        *("ip", "netns", "exec", namespaces[side], "unshare", "--mount", "sh", "-c"),
                        f"mount -t tmpfs tmpfs /run && exec {CHARON}",  # its process id file is there
                        stdout=log,
                        stderr=log,
                        env={**os.environ, "STRONGSWAN_CONF": str(home / "strongswan.conf")},
                    )
                )
        async with asyncio.timeout(30):
            for home in folders.values():
                while "spawning" not in (home / "log").read_text():
                    await asyncio.sleep(0.05)
        for home in folders.values():
            swanctl(home, "--load-all", "--file", str(home / "swanctl.conf"))
        yield folders
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def swanctl(home: Path, *words: str) -> str:
    """Ask a side's daemon."""
    command = ["swanctl", *words, "--uri", f"unix://{home}/vici"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_an_ipsec_tunnel_stands_on_a_fresh_quantum_key_each_time(
    manager: SmallKeyManager,
    tmp_path: Path,
    namespaces: dict[str, str],
) -> None:
    alice, bob = manager.authority.member("alice"), manager.authority.member("bob")
    id_port = _free_port()
    async with charons(tmp_path, namespaces) as homes:

        def where(side: str) -> tuple[object, ...]:
            return (
                *("--kme", manager.url, "--id-port", id_port, "--connection", "tunnel", "--child", "net"),
                *("--swanctl", homes[side], "--uri", f"unix://{homes[side]}/vici"),
            )

        follower = await _start("ipsec_ppk.py", "follow", *where("follow"), "--sae", bob, "--master", "alice")
        try:
            more = ("--sae", alice, "--slave", "bob", "--period", "0.2", "--rounds", "2")
            leader = await _start("ipsec_ppk.py", "lead", *where("lead"), *more)
            output, _ = await asyncio.wait_for(leader.communicate(), 90)
        finally:
            await _end(follower)
        told = re.findall(r"the tunnel has key ([0-9a-f-]{36})", output.decode())
        assert len(set(told)) == 2, output
        for home in homes.values():
            listed = swanctl(home, "--list-sas", "--ike", "tunnel")
            assert listed.count("ESTABLISHED") == 1, listed
            assert "/PPK" in listed
            log = (home / "log").read_text()
            assert all(f"using PPK for PPK_ID '{key_id}'" in log for key_id in told), log[-2000:]
        await speak(namespaces)
        # A side with another key under the same id is not let in: the key is required, not tried.
        broken = homes["follow"] / "conf.d" / "quantum-key.conf"
        broken.write_text(re.sub(r"0x[0-9a-f]{64}", "0x" + "11" * 32, broken.read_text()))
        swanctl(homes["follow"], "--load-creds", "--file", str(homes["follow"] / "swanctl.conf"))
        swanctl(homes["lead"], "--terminate", "--ike", "tunnel")
        with pytest.raises(AssertionError, match="failed"):
            swanctl(homes["lead"], "--initiate", "--child", "net", "--timeout", "10")


async def speak(namespaces: dict[str, str]) -> None:
    """Send a datagram through the tunnel."""
    hears = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", namespaces["follow"], "python3", "-c", RECEIVE), stdout=asyncio.subprocess.PIPE
    )
    heard = b""
    try:
        async with asyncio.timeout(20):
            while not heard:
                sends = await asyncio.create_subprocess_exec(
                    "ip", "netns", "exec", namespaces["lead"], "python3", "-c", SEND
                )
                await sends.wait()
                with contextlib.suppress(TimeoutError):
                    assert hears.stdout is not None
                    heard = await asyncio.wait_for(hears.stdout.read(100), 1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            hears.kill()
        await hears.wait()
    assert b"under ESP" in heard
