"""Release keys: each is a pair of an ML-DSA and an SLH-DSA key, and a bundle counts only with good signatures of both.

Two families, because one of them falling must not let anybody put a program onto every box of a fleet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.keys import PublicKey, SigningKey, context_of, generate
from qedge.fleet.update.ports import Verify
from qedge.wire.update import ManifestSignatures, ReleaseKey

FIRST_ALGORITHM: Final = "ml-dsa-87"
SECOND_ALGORITHM: Final = "slh-dsa-sha2-128s"
PURPOSE: Final = "update-manifest"


class SecondSigner(Protocol):
    """Makes keys and signatures of the second family, slowly."""

    def keygen(self) -> tuple[bytes, bytes]:
        """Return public and secret key."""
        ...

    def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
        """Sign."""
        ...


class ReleaseSecret(msgspec.Struct, frozen=True, tag_field="type", tag="release-secret/1"):
    """The secret half: the seed of the ML-DSA key, and the SLH-DSA key, with the public half beside them."""

    key: ReleaseKey
    seed: bytes
    slh_dsa: bytes

    def __repr__(self) -> str:
        return f"<ReleaseSecret {key_id(self.key)}>"


def key_id(key: ReleaseKey) -> str:
    """Return the id of a release key: the first 16 bytes of SHA3-256 over both public keys, in hex."""
    named = b"%s\0%s" % (key.slh_dsa_algorithm.encode(), key.slh_dsa)
    return hashlib.sha3_256(key.ml_dsa + named).digest()[:16].hex()


def make_key(name: str, random_bytes: RandomBytes, second: SecondSigner) -> ReleaseSecret:
    """Make a new release key."""
    first = generate(FIRST_ALGORITHM, random_bytes)
    public, secret = second.keygen()
    return ReleaseSecret(ReleaseKey(name, first.public_key.der, SECOND_ALGORITHM, public), first.seed, secret)


def sign_manifest(manifest: bytes, secret: ReleaseSecret, second: SecondSigner) -> ManifestSignatures:
    """Sign a manifest as it will stand in the bundle, with both keys."""
    first = SigningKey.from_seed(FIRST_ALGORITHM, secret.seed)
    return ManifestSignatures(
        key_id(secret.key),
        first.sign(manifest, PURPOSE),
        second.sign(secret.slh_dsa, manifest, context_of(PURPOSE)),
    )


def require_signed(
    manifest: bytes, signatures: ManifestSignatures, keys: Iterable[ReleaseKey], verify: Verify
) -> ReleaseKey:
    """Return the trusted key that signed; raises `update.bad_signature`, `update.no_key`."""
    known = {key_id(key): key for key in keys}
    if not known:
        raise QedgeError(
            "update.no_key",
            "This box trusts no release key.",
            fix="Put the fleet's public release key into /etc/qedge/release-keys.",
        )
    key = known.get(signatures.key_id)
    if key is None:
        raise QedgeError(
            "update.bad_signature",
            f"The bundle is signed by the key {signatures.key_id}, which is not trusted here.",
            fix=f"Sign it with one of: {', '.join(sorted(known))}; or trust that key, if it is your fleet's.",
        )
    try:
        PublicKey.from_der(key.ml_dsa).verify(signatures.ml_dsa, manifest, PURPOSE)
    except QedgeError:
        raise _bad("ML-DSA") from None
    if not verify(key.slh_dsa_algorithm, key.slh_dsa, manifest, signatures.slh_dsa, context_of(PURPOSE)):
        raise _bad("SLH-DSA")
    return key


def _bad(family: str) -> QedgeError:
    return QedgeError(
        "update.bad_signature",
        f"The {family} signature of the bundle is not good.",
        fix="The bundle was altered; fetch it again from where it was made.",
    )
