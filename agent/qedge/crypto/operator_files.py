"""The file of an operator: key, chain and the fleet's anchor, sealed by a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.durable_file import write_durably
from qedge.crypto.keys import SigningKey
from qedge.crypto.sealed_file import DEFAULT_COST, Cost, open_secret, seal_secret
from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Anchor, Chain

_MAX_BYTES: Final = 2**20


class OperatorIdentity(msgspec.Struct, frozen=True, tag_field="type", tag="operator-identity/1"):
    """Who an operator is, with the seed of the key. Secret."""

    fleet: Name
    name: Name
    algorithm: Short
    seed: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    chain: Chain
    anchor: Anchor

    def __repr__(self) -> str:
        return f"OperatorIdentity(fleet={self.fleet!r}, name={self.name!r})"

    @property
    def key(self) -> SigningKey:
        """The key itself."""
        return SigningKey.from_seed(self.algorithm, self.seed)


def write_operator(
    path: Path, identity: OperatorIdentity, passphrase: str, random_bytes: RandomBytes, cost: Cost = DEFAULT_COST
) -> None:
    """Write the file; raises `fleet.weak_passphrase`, `fleet.folder`."""
    sealed = seal_secret(msgspec.msgpack.encode(identity), passphrase, random_bytes, cost)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, sealed)
    except OSError as error:
        raise _unusable(path, error) from error


def read_operator(path: Path, passphrase: str) -> OperatorIdentity:
    """Open the file; raises `fleet.bad_passphrase`, `fleet.folder`."""
    try:
        with path.open("rb") as file:
            sealed = file.read(_MAX_BYTES)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        return msgspec.msgpack.decode(open_secret(sealed, passphrase), type=OperatorIdentity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError("fleet.folder", f"{path} is no file of an operator.", fix="Name another file.") from error


def _unusable(path: Path, error: OSError) -> QedgeError:
    return QedgeError("fleet.folder", f"{path} cannot be used: {error.strerror or error}.", fix="Name another file.")
