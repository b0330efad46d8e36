"""ML-DSA keys (FIPS 204, pure mode) of identities. Every signature has a context that names its purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes

SEED_BYTES: Final = 32
MAX_CONTEXT_BYTES: Final = 64
KEY_ID_BYTES: Final = 16

LibraryPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
LibraryPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey

_PRIVATE: Final[Mapping[str, type[LibraryPrivateKey]]] = {
    "ml-dsa-44": mldsa.MLDSA44PrivateKey,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey,
}
_PUBLIC: Final[Mapping[type[LibraryPublicKey], str]] = {
    mldsa.MLDSA44PublicKey: "ml-dsa-44",
    mldsa.MLDSA65PublicKey: "ml-dsa-65",
    mldsa.MLDSA87PublicKey: "ml-dsa-87",
}


class PublicKey:
    """A public key. `der` is its SubjectPublicKeyInfo; `key_id` the first 16 bytes of SHA3-256 of that, in hex."""

    def __init__(self, key: object) -> None:
        """Take a key of the library; raises `auth.bad_key` for one that is not ML-DSA."""
        if isinstance(key, (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)):
            self.library: LibraryPublicKey = key
            self.algorithm = next(name for kind, name in _PUBLIC.items() if isinstance(key, kind))
        else:
            raise QedgeError("auth.bad_key", "The key is not of ML-DSA.", fix="Identities use ml-dsa-65 or ml-dsa-87.")
        self.der = self.library.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = hashlib.sha3_256(self.der).digest()[:KEY_ID_BYTES].hex()

    @classmethod
    def from_der(cls, der: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo; raises `auth.bad_key`."""
        try:
            return cls(serialization.load_der_public_key(der))
        except (ValueError, TypeError) as error:
            raise QedgeError("auth.bad_key", "The public key cannot be read.") from error

    def verify(self, signature: bytes, message: bytes, purpose: str) -> None:
        """Raise `auth.bad_signature` where `signature` is not this key's over `message` for `purpose`."""
        try:
            self.library.verify(signature, message, context_of(purpose))
        except (InvalidSignature, ValueError):
            raise QedgeError("auth.bad_signature", "A signature is not good.") from None


class SigningKey:
    """A private key, made from its 32-byte seed. Signing takes a fraction of a millisecond up to several."""

    def __init__(self, algorithm: str, seed: bytes) -> None:
        if algorithm not in _PRIVATE or len(seed) != SEED_BYTES:
            raise QedgeError("auth.bad_key", "A private key has an unknown algorithm or a seed of the wrong size.")
        self.algorithm = algorithm
        self.seed = seed
        self.library: LibraryPrivateKey = _PRIVATE[algorithm].from_seed_bytes(seed)
        self.public_key = PublicKey(self.library.public_key())

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm} {self.key_id}>"

    @classmethod
    def from_seed(cls, algorithm: str, seed: bytes) -> SigningKey:
        """Make the key of a seed; raises `auth.bad_key`."""
        return cls(algorithm, seed)

    @property
    def key_id(self) -> str:
        """The id of the public key."""
        return self.public_key.key_id

    def sign(self, message: bytes, purpose: str) -> bytes:
        """Sign `message` for `purpose` (the context is `qedge/v1/` and the purpose)."""
        return self.library.sign(message, context_of(purpose))

    def pkcs8_pem(self) -> bytes:
        """Write the key as unencrypted PKCS#8 PEM, for libraries that take keys no other way. Secret."""
        return self.library.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def generate(algorithm: str, random_bytes: RandomBytes) -> SigningKey:
    """Make a new key from 32 random bytes."""
    return SigningKey(algorithm, random_bytes(SEED_BYTES))


def context_of(purpose: str) -> bytes:
    """Return the ML-DSA context of a purpose; one of more than 64 bytes is a fault of the program."""
    context = b"qedge/v1/" + purpose.encode()
    if len(context) > MAX_CONTEXT_BYTES:
        raise ValueError(f"the purpose {purpose!r} is too long")
    return context
