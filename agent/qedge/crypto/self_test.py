"""Round trips of every allowed algorithm with throw-away keys, against the sizes of the registry.

They show that the library of this box does what the registry says; the foreign vectors of the tests show that it does
it as the standards want.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives import hmac as library_hmac
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from OpenSSL import SSL
from OpenSSL._util import lib as openssl

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.keys import generate
from qedge.crypto.registry import Algorithm, Kind

MESSAGE: Final = b"qedge self test"
PURPOSE: Final = "self-test"
_TAG_BYTES: Final = 16
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
}
ML_KEM: Final[Mapping[str, type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]]] = {
    "ml-kem-768": mlkem.MLKEM768PrivateKey,
    "ml-kem-1024": mlkem.MLKEM1024PrivateKey,
}


def is_testable(row: Algorithm) -> bool:
    """Say whether what provides the algorithm is installed here."""
    return row.provider == "cryptography" or importlib.util.find_spec(row.provider) is not None


def run_once(row: Algorithm, random_bytes: RandomBytes) -> None:
    """Run one round trip of an allowed algorithm; raises `crypto.test_failed`."""
    _TESTS[row.kind](row, random_bytes)


def check_sizes(row: Algorithm, found: Mapping[str, int]) -> None:
    """Compare sizes in bytes with those of the registry; raises `crypto.test_failed`."""
    for part, size in found.items():
        require(row.sizes.get(part) == size, row, f"{part} has {size} bytes, not {row.sizes.get(part)}")


def require(condition: bool, row: Algorithm, what: str) -> None:
    """Raise `crypto.test_failed` unless `condition` holds."""
    if not condition:
        raise QedgeError(
            "crypto.test_failed",
            f"{row.name}: {what}.",
            fix=f"Install another release of {row.provider}; until then, leave {row.name} out of [crypto].",
        )


def _test_kem(row: Algorithm, random_bytes: RandomBytes) -> None:
    if row.name not in ML_KEM:
        _test_hybrid(row, random_bytes)
        return
    private = ML_KEM[row.name].from_seed_bytes(random_bytes(row.sizes["secret_key"]))
    public = private.public_key()
    secret, ciphertext = public.encapsulate()
    check_sizes(
        row,
        {
            "public_key": len(public.public_bytes_raw()),
            "secret_key": len(private.private_bytes_raw()),
            "ciphertext": len(ciphertext),
            "shared_secret": len(secret),
        },
    )
    require(private.decapsulate(ciphertext) == secret, row, "both sides have different secrets")
    # FIPS 203 §6.3: a wrong ciphertext gives a secret that nobody knows, not an error.
    require(private.decapsulate(_altered(ciphertext)) != secret, row, "an altered ciphertext gives the same secret")


def _test_hybrid(row: Algorithm, random_bytes: RandomBytes) -> None:
    key: hpke.MLKEM768X25519PrivateKey | hpke.MLKEM1024P384PrivateKey
    if row.name == "mlkem768-x25519":
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        key = hpke.MLKEM768X25519PrivateKey(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(random_bytes(64)),
            x25519.X25519PrivateKey.from_private_bytes(random_bytes(32)),
        )
    else:
        suite = hpke.Suite(hpke.KEM.MLKEM1024_P384, hpke.KDF.HKDF_SHA384, hpke.AEAD.AES_256_GCM)
        key = hpke.MLKEM1024P384PrivateKey(
            mlkem.MLKEM1024PrivateKey.from_seed_bytes(random_bytes(64)), ec.generate_private_key(ec.SECP384R1())
        )
    sealed = suite.encrypt(MESSAGE, key.public_key(), PURPOSE.encode())
    check_sizes(row, {"ciphertext": len(sealed) - len(MESSAGE) - _TAG_BYTES})
    require(suite.decrypt(sealed, key, PURPOSE.encode()) == MESSAGE, row, "what was sealed does not open")
    try:
        suite.decrypt(_altered(sealed), key, PURPOSE.encode())
    except InvalidTag:
        return
    require(False, row, "an altered message opens")


def _test_signature(row: Algorithm, random_bytes: RandomBytes) -> None:
    key = generate(row.name, random_bytes)
    signature = key.sign(MESSAGE, PURPOSE)
    sizes = {"public_key": len(key.public_key.library.public_bytes_raw()), "signature": len(signature)}
    check_sizes(row, {**sizes, "secret_key": len(key.seed)})
    try:
        key.public_key.library.verify(signature, MESSAGE, f"qedge/v1/{PURPOSE}".encode())
    except InvalidSignature:
        require(False, row, "a good signature is refused")
    for text, purpose in ((_altered(MESSAGE), PURPOSE), (MESSAGE, "other")):
        try:
            key.public_key.verify(signature, text, purpose)
        except QedgeError:
            continue
        require(False, row, "a signature of something else is taken")


def _test_aead(row: Algorithm, random_bytes: RandomBytes) -> None:
    make = AESGCM if row.name == "aes-256-gcm" else ChaCha20Poly1305
    cipher, nonce = make(random_bytes(row.sizes["key"])), random_bytes(row.sizes["nonce"])
    sealed = cipher.encrypt(nonce, MESSAGE, b"header")
    check_sizes(row, {"tag": len(sealed) - len(MESSAGE)})
    require(cipher.decrypt(nonce, sealed, b"header") == MESSAGE, row, "what was sealed does not open")
    for frame, header in ((_altered(sealed), b"header"), (sealed, b"other")):
        try:
            cipher.decrypt(nonce, frame, header)
        except InvalidTag:
            continue
        require(False, row, "an altered message opens")


def _test_hash(row: Algorithm, random_bytes: RandomBytes) -> None:
    data = random_bytes(1024)
    if row.name == "blake3":
        blake3: Callable[[bytes], hashlib._Hash] = importlib.import_module("blake3").blake3
        check_sizes(row, {"digest": len(blake3(data).digest())})
        # The first bytes of the published value of the empty input.
        require(blake3(b"").hexdigest().startswith("af1349b9f5f9a1a6"), row, "the empty input has another digest")
        return
    digest = hashes.Hash(_HASHES[row.name])
    digest.update(data)
    value = digest.finalize()
    check_sizes(row, {"digest": len(value)})
    other = hashlib.new(row.name.replace("sha-", "sha").replace("sha3-", "sha3_"), data).digest()
    require(value == other, row, "two libraries give different digests")


def _test_kdf(row: Algorithm, random_bytes: RandomBytes) -> None:
    key, data = random_bytes(32), random_bytes(100)
    if row.name == "hmac":
        mac = library_hmac.HMAC(key, hashes.SHA256())
        mac.update(data)
        require(mac.finalize() == hmac.digest(key, data, "sha256"), row, "two libraries give different values")
        return
    derived = HKDF(hashes.SHA256(), 32, key, b"info").derive(data)
    extracted = hmac.digest(key, data, "sha256")
    expected = hmac.digest(extracted, b"info\x01", "sha256")  # RFC 5869 §2.3, the first block
    require(derived == expected, row, "two libraries give different keys")


def _test_group(row: Algorithm, _random_bytes: RandomBytes) -> None:
    # A handshake needs certificates; here it is enough that the library would offer the group.
    context = SSL.Context(SSL.TLS_METHOD)
    known = openssl.SSL_CTX_set1_curves_list(context._context, row.name.encode()) == 1
    require(known, row, "the TLS library does not know the group")


def _altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


_TESTS: Final[Mapping[Kind, Callable[[Algorithm, RandomBytes], None]]] = {
    Kind.KEM: _test_kem,
    Kind.SIGNATURE: _test_signature,
    Kind.AEAD: _test_aead,
    Kind.HASH: _test_hash,
    Kind.KDF: _test_kdf,
    Kind.GROUP: _test_group,
}
