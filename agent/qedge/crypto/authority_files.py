"""The folder of a fleet's authority on the operator's machine, or on a stick in a safe.

`ledger.qedge` is public; `issuing.sealed` is needed to certify and revoke; `root.sealed` only to make a new issuing
key, and may be moved away. `renewals` has, for each node, the chain that was last made without a person. Writes are
atomic: a new file, synced, then renamed.

Several programs may work on one folder: each takes its `turn`, in which nobody else changes the ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.authority import Authority, Ledger, RootSecret, renew_issuing
from qedge.crypto.durable_file import write_durably
from qedge.crypto.sealed_file import DEFAULT_COST, Cost, open_secret, seal_secret

_LEDGER: Final = "ledger.qedge"
_ISSUING: Final = "issuing.sealed"
_ROOT: Final = "root.sealed"
_LOCK: Final = "ledger.lock"
_RENEWALS: Final = "renewals"
_CHAIN: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])
_MAX_BYTES: Final = 64 * 2**20


class AuthorityFolder:
    """One fleet's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a fleet was founded here."""
        return (self.path / _LEDGER).exists()

    def create(
        self,
        ledger: Ledger,
        root: RootSecret,
        issuing_seed: bytes,
        passphrase: str,
        random_bytes: RandomBytes,
        cost: Cost = DEFAULT_COST,
    ) -> None:
        """Write a new authority; raises `fleet.exists`, `fleet.folder`, `fleet.weak_passphrase`."""
        if self.exists:
            raise QedgeError("fleet.exists", f"{self.path} has a fleet already.", fix="Choose another name or folder.")
        sealed_root = seal_secret(msgspec.msgpack.encode(root), passphrase, random_bytes, cost)
        sealed_issuing = seal_secret(issuing_seed, passphrase, random_bytes, cost)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise _unusable(self.path, error) from error
        self._write(_ROOT, sealed_root)
        self._write(_ISSUING, sealed_issuing)
        self._write(_LEDGER, msgspec.msgpack.encode(ledger))

    def ledger(self) -> Ledger:
        """Read the public part; raises `fleet.none`, `fleet.folder`."""
        if not self.exists:
            raise QedgeError(
                "fleet.none", f"No fleet was founded in {self.path}.", fix="Found one: `qedge fleet init`."
            )
        try:
            return msgspec.msgpack.decode(self._read(_LEDGER), type=Ledger)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise QedgeError(
                "fleet.folder", f"{self.path / _LEDGER} cannot be read.", fix="Restore the folder from its copy."
            ) from error

    def open(self, passphrase: str) -> Authority:
        """Open the issuing key; raises `fleet.bad_passphrase`, `fleet.none`, `auth.untrusted`."""
        ledger = self.ledger()
        authority = Authority(ledger, open_secret(self._read(_ISSUING), passphrase))
        authority.check()
        return authority

    def open_root(self, passphrase: str) -> RootSecret:
        """Open the root's secret; raises `fleet.bad_passphrase`, `fleet.folder` where it was moved away."""
        return msgspec.msgpack.decode(open_secret(self._read(_ROOT), passphrase), type=RootSecret)

    def save(self, ledger: Ledger) -> None:
        """Write the ledger down; do this before a certificate leaves."""
        self._write(_LEDGER, msgspec.msgpack.encode(ledger))

    @contextlib.contextmanager
    def turn(self, authority: Authority) -> Iterator[Authority]:
        """Have the newest ledger for a while, alone; what changed of it is on the disk afterwards.

        A program that stays open would otherwise write back a ledger of long ago, and with it undo a revocation.
        Nothing is written where the body raises. Raises `fleet.folder`, and `auth.untrusted` where there is another
        issuing key now.
        """
        with self._alone():
            found = authority.ledger = self.ledger()
            authority.check()
            yield authority
            if authority.ledger is not found:
                self.save(authority.ledger)

    def reissue(self, passphrase: str, utc_ns: int, random_bytes: RandomBytes, cost: Cost = DEFAULT_COST) -> Ledger:
        """Make a new issuing key with the root's, which has to be there; certificates of the old one stay good.

        Raises as `open_root` does. It may be done again where power failed on the way.
        """
        root = self.open_root(passphrase)
        with self._alone():
            ledger, seed = renew_issuing(self.ledger(), root, utc_ns=utc_ns, random_bytes=random_bytes)
            self.replace_issuing(ledger, seed, passphrase, random_bytes, cost)
        return ledger

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.path / _LOCK, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def kept(self, node: str) -> tuple[bytes, ...]:
        """Return the chain that was last made for a node; empty where there is none, or none that can be read."""
        try:
            return _CHAIN.decode((self.path / _RENEWALS / node).read_bytes())
        except (OSError, msgspec.DecodeError):
            return ()

    def keep(self, node: str, chain: tuple[bytes, ...]) -> None:
        """Keep the chain that was made for a node; raises `fleet.folder`."""
        try:
            (self.path / _RENEWALS).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path / _RENEWALS, error) from error
        self._write(f"{_RENEWALS}/{node}", msgspec.msgpack.encode(chain))

    def replace_issuing(
        self, ledger: Ledger, issuing_seed: bytes, passphrase: str, random_bytes: RandomBytes, cost: Cost = DEFAULT_COST
    ) -> None:
        """Write a new issuing key and the ledger that names it."""
        self._write(_ISSUING, seal_secret(issuing_seed, passphrase, random_bytes, cost))
        self.save(ledger)

    def _read(self, name: str) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                return file.read(_MAX_BYTES)
        except OSError as error:
            raise _unusable(self.path / name, error) from error

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        try:
            write_durably(path, data)
        except OSError as error:
            raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> QedgeError:
    return QedgeError(
        "fleet.folder", f"{path} cannot be used: {error.strerror or error}.", fix="Name another folder with --folder."
    )
