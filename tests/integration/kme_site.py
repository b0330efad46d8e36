"""Two key managers A and B over the fake store, with real HTTPS and certificates for everyone a test needs."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.client.kme_link import Credentials, KmeLink, Place, place_of
from qedge.crypto.web_authority import WebAuthority, make_request, new_key
from qedge.crypto.web_files import WebFolder
from qedge.qkd.delivery.config import DeliveryConfig, SaeConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.fake import FakeLinks, FakeVault
from qedge.qkd.delivery.registry import Registry, uri_of
from qedge.web.key_delivery.service import KeyService
from qedge.web.key_delivery.tls import TlsFiles

ODD_ID = "SAE bö/7"
SAES = {
    "alice": SaeConfig(node="A", permit=("bob", "carol", "eve", "odd")),
    "bob": SaeConfig(node="B", permit=("alice", "carol")),
    "carol": SaeConfig(node="B"),
    "eve": SaeConfig(node="A", permit=("bob",)),
    "odd": SaeConfig(id=ODD_ID, node="B", permit=("alice",)),
}
DAY_NS = 86_400 * 10**9


class Wallet:
    """Makes certificates of one authority and keeps them as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = WebFolder(folder / name)
        self.authority: WebAuthority = self.folder.found(name, utc_ns=time.time_ns(), random_bytes=os.urandom)

    def client(self, name: str, uri: str, *, trusts: Path | None = None, age_days: int = 0) -> Credentials:
        """Issue a client's certificate; one made `age_days` ago may have ended."""
        key = new_key(os.urandom)
        certificate = self.authority.issue_client(
            make_request(key, uri), uri, utc_ns=time.time_ns() - age_days * DAY_NS, random_bytes=os.urandom
        )
        return self.write(name, key, certificate, trusts)

    def two_names(self, name: str) -> Credentials:
        """Issue a certificate that names two applications, which the product never does."""
        key = new_key(os.urandom)
        public = x509.load_der_x509_csr(make_request(key, "alice")).public_key()
        names = [x509.UniformResourceIdentifier("alice"), x509.UniformResourceIdentifier("bob")]
        certificate = self.authority._issue(
            public,  # type: ignore[arg-type]  # of P-256
            "alice",
            names,
            ExtendedKeyUsageOID.CLIENT_AUTH,
            time.time_ns(),
            1,
            os.urandom,
        )
        return self.write(name, key, certificate, None)

    def write(self, name: str, key: str, certificate: str, trusts: Path | None) -> Credentials:
        folder = self.folder.path
        (folder / f"{name}.crt").write_text(certificate)
        (folder / f"{name}.key").write_text(key)
        return Credentials(folder / f"{name}.crt", folder / f"{name}.key", trusts or self.folder.authority_file)


@dataclass
class Kme:
    """One running key manager."""

    service: KeyService
    desk: KeyDesk
    vault: FakeVault
    metrics: Metrics
    files: TlsFiles

    @property
    def place(self) -> Place:
        return place_of(self.service.address)


@dataclass
class Kmes:
    """Both, and who may speak to them."""

    a: Kme
    b: Kme
    links: FakeLinks
    wallet: Wallet
    people: dict[str, Credentials]
    open: dict[tuple[str, str], KmeLink] = field(default_factory=dict)

    def link(self, name: str, at: str, **versions: ssl.TLSVersion) -> KmeLink:
        """Open a new connection of a person to a key manager."""
        kme = self.a if at == "A" else self.b
        return KmeLink(kme.place, self.people[name].context(**versions))

    def kept(self, name: str, at: str) -> KmeLink:
        """Return the connection of a person that is used again and again."""
        if (name, at) not in self.open:
            self.open[name, at] = self.link(name, at)
        return self.open[name, at]


@asynccontextmanager
async def running(service: KeyService) -> AsyncIterator[None]:
    """Run a service for the length of a block."""
    up = asyncio.Event()
    task = asyncio.create_task(service.run(up.set))
    waiting = asyncio.create_task(up.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


@asynccontextmanager
async def two_kmes(folder: Path, config: DeliveryConfig | None = None) -> AsyncIterator[Kmes]:
    """Run A and B, whose certificates are of one web authority as in a fleet."""
    clock = SystemClock()
    wallet, other = Wallet(folder, "web"), Wallet(folder, "elsewhere")
    links = FakeLinks(clock, os.urandom)
    made: dict[str, Kme] = {}
    config = config or DeliveryConfig(enabled=True, port=0, kme_ids={"A": "KME-A", "B": "KME-B"})
    config = msgspec.structs.replace(config, port=0)
    for node in ("A", "B"):
        metrics, vault = Metrics(), FakeVault(node, links)
        desk = KeyDesk(config, Registry(node, SAES), vault, clock=clock)
        server = wallet.authority.issue_server(
            uri_of(desk.kme_id), ("localhost", "127.0.0.1"), utc_ns=time.time_ns(), random_bytes=os.urandom
        )
        pair = wallet.write(f"kme-{node}", server.key, server.certificate, None)
        files = TlsFiles(
            pair.certificate, pair.private_key, wallet.folder.authority_file, wallet.folder.revocations_file
        )
        service = KeyService(desk, files, clock=clock, metrics=metrics)
        made[node] = Kme(service, desk, vault, metrics, files)
    trusts = wallet.folder.authority_file
    people = {name: wallet.client(name, uri_of(sae.id or name)) for name, sae in SAES.items()}
    people |= {
        "nobody": wallet.client("nobody", "nobody"),
        "expired": wallet.client("expired", "alice", age_days=400),
        "unknown authority": other.client("alice", "alice", trusts=trusts),
        "two names": wallet.two_names("two"),
        "revoked": wallet.client("revoked", "mallory"),
    }
    wallet.authority.revoke("mallory", utc_ns=time.time_ns())
    wallet.folder.keep(wallet.authority, utc_ns=time.time_ns(), revoked=True)
    async with AsyncExitStack() as stack:
        for kme in made.values():
            await stack.enter_async_context(running(kme.service))
        kmes = Kmes(made["A"], made["B"], links, wallet, people)
        try:
            yield kmes
        finally:
            for link in kmes.open.values():
                await link.close()
