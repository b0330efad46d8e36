"""The folder of a web authority: of a node in its state directory, or of an operator beside the fleet's authority.

`authority.pem` and `revoked.pem` are public; `authority.key` is readable by its owner alone, sealed by a passphrase
where an operator has one; `ledger.json` lists what was issued. `server.pem` and `server.key` are the node's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.durable_file import write_durably
from qedge.crypto.sealed_file import DEFAULT_COST, Cost, open_secret, seal_secret
from qedge.crypto.web_authority import RENEW_DAYS, WebAuthority, WebLedger, ends_utc_ns, found_web, names_of

_LEDGER: Final = "ledger.json"
_KEY: Final = "authority.key"
_SEALED: Final = "authority.sealed"
_DAY_NS: Final = 86_400 * 1_000_000_000


class WebFolder:
    """One web authority's folder; every write is a new file, synced and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether an authority was founded here."""
        return (self.path / _LEDGER).exists()

    @property
    def is_sealed(self) -> bool:
        """Whether a passphrase is needed to issue."""
        return (self.path / _SEALED).exists()

    @property
    def authority_file(self) -> Path:
        """The authority's certificate."""
        return self.path / "authority.pem"

    @property
    def revocations_file(self) -> Path:
        """The authority's newest revocation list."""
        return self.path / "revoked.pem"

    @property
    def server_files(self) -> tuple[Path, Path]:
        """Certificate and private key of the node's own server."""
        return self.path / "server.pem", self.path / "server.key"

    def found(
        self,
        name: str,
        *,
        utc_ns: int,
        random_bytes: RandomBytes,
        passphrase: str = "",
        cost: Cost = DEFAULT_COST,
    ) -> WebAuthority:
        """Found an authority; with a passphrase its key is sealed. Raises `fleet.exists`, `web.bad_certificate`."""
        if self.exists:
            raise QedgeError("fleet.exists", f"{self.path} has an authority already.", fix="Choose another folder.")
        ledger, key = found_web(name, utc_ns=utc_ns, random_bytes=random_bytes)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        if passphrase:
            self._write(_SEALED, seal_secret(key.encode("ascii"), passphrase, random_bytes, cost), 0o600)
        else:
            self._write(_KEY, key.encode("ascii"), 0o600)
        self._write(self.authority_file.name, ledger.authority.encode("ascii"), 0o644)
        authority = WebAuthority(ledger, key)
        self.keep(authority, utc_ns=utc_ns, revoked=True)
        return authority

    def open(self, passphrase: str = "") -> WebAuthority:
        """Open the authority; raises `fleet.bad_passphrase`, `web.bad_certificate`."""
        try:
            ledger = msgspec.json.decode(self._read(_LEDGER), type=WebLedger)
        except msgspec.DecodeError as error:
            raise QedgeError(
                "web.bad_certificate", f"{self.path / _LEDGER} cannot be read.", fix="Restore the folder from its copy."
            ) from error
        key = open_secret(self._read(_SEALED), passphrase) if self.is_sealed else self._read(_KEY)
        return WebAuthority(ledger, key.decode("ascii"))

    def keep(self, authority: WebAuthority, *, utc_ns: int, revoked: bool = False) -> None:
        """Write the ledger, before a certificate leaves; and where something was `revoked` the revocation list."""
        self._write(_LEDGER, msgspec.json.encode(authority.ledger), 0o600)
        if revoked:
            self._write(self.revocations_file.name, authority.revocations(utc_ns=utc_ns).encode("ascii"), 0o644)

    def ensure_server(
        self, authority: WebAuthority, uri: str, names: tuple[str, ...], *, utc_ns: int, random_bytes: RandomBytes
    ) -> None:
        """Make the server's certificate where there is none, it ends soon, or it is for other names."""
        certificate, key = self.server_files
        if certificate.exists() and key.exists():
            text = self._read(certificate.name).decode("ascii", "replace")
            hosts, uris = names_of(text)
            if hosts == set(names) and uris == (uri,) and ends_utc_ns(text) - utc_ns > RENEW_DAYS * _DAY_NS:
                return
        made = authority.issue_server(uri, names, utc_ns=utc_ns, random_bytes=random_bytes)
        authority.forget_ended(utc_ns)
        self.keep(authority, utc_ns=utc_ns)
        self._write(key.name, made.key.encode("ascii"), 0o600)
        self._write(certificate.name, made.certificate.encode("ascii"), 0o644)

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise _unusable(self.path / name, error) from error

    def _write(self, name: str, data: bytes, mode: int) -> None:
        write_file(self.path / name, data, mode)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file anew and durably, with exactly these permissions; raises `web.bad_certificate`."""
    try:
        write_durably(path, data, mode)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> QedgeError:
    return QedgeError(
        "web.bad_certificate",
        f"{path} cannot be used: {error.strerror or error}.",
        fix="Make it readable and writable for this user, or name another folder.",
    )
