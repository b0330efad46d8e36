"""Foreign vectors of what the product uses, in both providers, and the providers against each other.

Wycheproof (C2SP/wycheproof, Apache-2.0) is read from beside the repository and skipped where it is absent; the vectors
of `cryptography_vectors` are a test dependency. `slhdsa` is a third, independent implementation: Python of its own (its
wheel is that source compiled), over the hashes of `hashlib`. Every case where a library differs from a vector stands
here by its reason; any other difference is a failure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import cryptography_vectors
import pytest
import slhdsa
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from slhdsa.lowlevel import parameters

from qedge.crypto.pq_worker import PqTarget, module_name

WYCHEPROOF = Path(__file__).parents[3].parent / "shared" / "data" / "wycheproof"
VECTORS = Path(cryptography_vectors.__file__).parent
RECORDS = 100
"""Records taken of each .rsp file; some hold a thousand."""

CONTEXT = b"qedge/v1/anchor"

Case = dict[str, object]
SIGNERS: dict[str, type[mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey]] = {
    "44": mldsa.MLDSA44PrivateKey,
    "65": mldsa.MLDSA65PrivateKey,
    "87": mldsa.MLDSA87PrivateKey,
}
VERIFIERS: dict[str, type[mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey]] = {
    "44": mldsa.MLDSA44PublicKey,
    "65": mldsa.MLDSA65PublicKey,
    "87": mldsa.MLDSA87PublicKey,
}
KEMS: dict[str, type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]] = {
    "768": mlkem.MLKEM768PrivateKey,
    "1024": mlkem.MLKEM1024PrivateKey,
}
ENCAPSULATORS: dict[str, type[mlkem.MLKEM768PublicKey] | type[mlkem.MLKEM1024PublicKey]] = {
    "768": mlkem.MLKEM768PublicKey,
    "1024": mlkem.MLKEM1024PublicKey,
}
SIGNATURE_BYTES = {"44": 2420, "65": 3309, "87": 4627}


def wycheproof(name: str) -> Iterator[tuple[Case, Case]]:
    """Yield group and case of a Wycheproof file."""
    path = WYCHEPROOF / f"{name}_test.json"
    if not path.exists():
        pytest.skip(f"the Wycheproof vectors are not beside the repository ({path.name})")
    for group in json.loads(path.read_bytes())["testGroups"]:
        for case in group["tests"]:
            yield group, case


def raw(values: Case, key: str) -> bytes:
    return bytes.fromhex(str(values.get(key, "")))


def records(*path: str) -> Iterator[dict[str, str]]:
    """Yield the records of a NIST .rsp file: `name = value` lines, each record from its `count` on."""
    record: dict[str, str] = {}
    with VECTORS.joinpath(*path).open(encoding="ascii") as lines:
        for line in lines:
            name, equals, value = line.partition(" =")
            if not equals or line.startswith(("#", "[")):
                continue
            if name.lower() == "count" and record:
                yield record
                record = {}
            record[name.strip().lower()] = value.strip()
    yield record


def hexes(record: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(record[name]) for name in names]


def opens(make: Callable[[bytes], AESGCM] | Callable[[bytes], ChaCha20Poly1305], case: Case) -> str:
    """Return `valid` where both directions give what the case says, `invalid` where it does not open, or a refusal."""
    try:
        cipher = make(raw(case, "key"))
        sealed = raw(case, "ct") + raw(case, "tag")
        plain = cipher.decrypt(raw(case, "iv"), sealed, raw(case, "aad"))
        again = cipher.encrypt(raw(case, "iv"), raw(case, "msg"), raw(case, "aad"))
    except InvalidTag:
        return "invalid"
    except ValueError as error:
        return f"refused: {error}"
    return "valid" if plain == raw(case, "msg") and again == sealed else "wrong"


def test_aes_gcm_differs_from_wycheproof_only_by_refusing_odd_nonces() -> None:
    told: Counter[str] = Counter()
    for group, case in wycheproof("aes_gcm"):
        found = opens(AESGCM, case)
        odd_nonce = not 8 <= cast("int", group["ivSize"]) // 8 <= 128
        if found.startswith("refused"):
            assert odd_nonce, case
            told["refused"] += case["result"] == "valid"
        else:
            assert found == case["result"], case
        told["all"] += 1
    assert told["all"] == 316
    assert told["refused"] == 27


def test_chacha20_poly1305_agrees_with_wycheproof() -> None:
    cases = [case for _, case in wycheproof("chacha20_poly1305")]
    assert len(cases) == 325
    for case in cases:
        assert opens(ChaCha20Poly1305, case).split(":")[0].replace("refused", "invalid") == case["result"], case


def test_hkdf_sha256_agrees_with_wycheproof() -> None:
    for _, case in wycheproof("hkdf_sha256"):
        try:
            derive = HKDF(hashes.SHA256(), cast("int", case["size"]), raw(case, "salt"), raw(case, "info"))
            found = "valid" if derive.derive(raw(case, "ikm")) == raw(case, "okm") else "wrong"
        except ValueError:
            found = "invalid"
        assert found == case["result"], case


def test_x25519_differs_from_wycheproof_only_by_refusing_the_zero_secret() -> None:
    refused = 0
    for _, case in wycheproof("x25519"):
        key = x25519.X25519PrivateKey.from_private_bytes(raw(case, "private"))
        try:
            shared = key.exchange(x25519.X25519PublicKey.from_public_bytes(raw(case, "public")))
        except ValueError:
            # RFC 7748 §6.1 leaves it open; a secret that everybody knows is none.
            assert raw(case, "shared") == bytes(32), case
            refused += 1
            continue
        assert case["result"] != "invalid", case
        assert shared == raw(case, "shared"), case
    assert refused > 0


@pytest.mark.parametrize(("size", "number"), [("44", 180), ("65", 210), ("87", 241)])
def test_ml_dsa_verification_agrees_with_wycheproof_in_both_providers(size: str, number: int) -> None:
    seen, by_pqcrypto = 0, []
    for group, case in wycheproof(f"mldsa_{size}_verify"):
        seen += 1
        key, message, signature, context = (
            raw(group, "publicKey"),
            raw(case, "msg"),
            raw(case, "sig"),
            raw(case, "ctx"),
        )
        try:
            VERIFIERS[size].from_public_bytes(key).verify(signature, message, context)
            found = "valid"
        except (InvalidSignature, ValueError):
            found = "invalid"
        assert found == case["result"], case["comment"]
        if (found == "valid") != pqcrypto_verifies(size, key, message, signature, context):
            by_pqcrypto.append(len(context))
    assert seen == number
    # pqcrypto 1.0 refuses good signatures with a context of 254 or 255 bytes; ours have at most 64.
    assert by_pqcrypto == [255]


def pqcrypto_verifies(size: str, key: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
    from pqcrypto import sign

    try:
        getattr(sign, f"ml_dsa_{size}").verify(key, message, signature, context=context)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("size", ["768", "1024"])
def test_ml_kem_decapsulation_agrees_with_wycheproof(size: str) -> None:
    seen = 0
    for _, case in wycheproof(f"mlkem_{size}"):
        seen += 1
        try:
            key = KEMS[size].from_seed_bytes(raw(case, "seed"))
            same = key.public_key().public_bytes_raw() == raw(case, "ek")
            found = "valid" if key.decapsulate(raw(case, "c")) == raw(case, "K") and same else "wrong"
        except ValueError:
            found = "invalid"
        assert found == case["result"], case
    assert seen == 193


def test_ml_kem_768_refuses_the_public_keys_that_wycheproof_refuses_in_both_providers() -> None:
    from pqcrypto import kem

    seen = 0
    for _, case in wycheproof("mlkem_768_encaps"):
        seen += 1
        good = case["result"] == "valid"
        assert takes(lambda key: mlkem.MLKEM768PublicKey.from_public_bytes(key).encapsulate(), raw(case, "ek")) == good
        assert takes(kem.ml_kem_768.encaps, raw(case, "ek")) == good, case
    assert seen == 265


def takes(use: Callable[[bytes], object], key: bytes) -> bool:
    try:
        use(key)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("size", ["768", "1024"])
def test_ml_kem_gives_the_known_answers_in_both_providers(size: str) -> None:
    from pqcrypto import kem

    second = getattr(kem, f"ml_kem_{size}")
    seen = 0
    for record in islice(records("asymmetric", "MLKEM", f"kat_MLKEM_{size}.rsp"), RECORDS):
        d, z, public, expanded, wrong, wrong_secret, ciphertext, secret = hexes(
            record, "d", "z", "pk", "sk", "ct_n", "ss_n", "ct", "ss"
        )
        key = KEMS[size].from_seed_bytes(d + z)
        assert key.public_key().public_bytes_raw() == public
        for sent, agreed in ((ciphertext, secret), (wrong, wrong_secret)):
            assert key.decapsulate(sent) == agreed
            assert second.decaps(expanded, sent) == agreed
        seen += 1
    assert seen == RECORDS


@pytest.mark.parametrize("size", ["44", "65", "87"])
def test_ml_dsa_takes_the_known_signatures_in_both_providers(size: str) -> None:
    seen = 0
    for record in islice(records("asymmetric", "MLDSA", f"kat_MLDSA_{size}_det_pure.rsp"), RECORDS):
        seed, public, message, context, signed = hexes(record, "xi", "pk", "msg", "ctx", "sm")
        key = SIGNERS[size].from_seed_bytes(seed)
        signature = signed[: SIGNATURE_BYTES[size]]
        assert key.public_key().public_bytes_raw() == public
        key.public_key().verify(signature, message, context)
        assert pqcrypto_verifies(size, public, message, signature, context)
        seen += 1
    assert seen == RECORDS


def test_hkdf_sha256_gives_the_answers_of_rfc_5869() -> None:
    seen = 0
    for record in records("KDF", "rfc-5869-HKDF-SHA256.txt"):
        secret, salt, info, expected = hexes(record, "ikm", "salt", "info", "okm")
        assert HKDF(hashes.SHA256(), int(record["l"]), salt, info).derive(secret) == expected
        seen += 1
    assert seen == 3


def test_aes_256_gcm_seals_as_the_known_answers_of_nist() -> None:
    seen = 0
    for record in records("ciphers", "AES", "GCM", "gcmEncryptExtIV256.rsp"):
        key, nonce, plain, header, sealed, tag = hexes(record, "key", "iv", "pt", "aad", "ct", "tag")
        if len(nonce) != 12 or len(tag) != 16:
            continue
        assert AESGCM(key).encrypt(nonce, plain, header) == sealed + tag
        assert AESGCM(key).decrypt(nonce, sealed + tag, header) == plain
        seen += 1
    assert seen >= 300


@pytest.mark.parametrize("size", ["44", "65", "87"])
def test_each_provider_takes_the_ml_dsa_signatures_of_the_other(size: str) -> None:
    target = PqTarget({}, None)
    for context in (b"", CONTEXT, bytes(64)):
        asked: dict[str, object] = {"algorithm": f"ml-dsa-{size}", "message": b"message", "context": context}
        key = SIGNERS[size].generate()
        ours = {"public_key": key.public_key().public_bytes_raw(), "signature": key.sign(b"message", context)}
        assert target.handle("verify", {**asked, **ours}) is True
        assert target.handle("verify", {**asked, **ours, "context": b"other"}) is False
        theirs = cast("dict[str, bytes]", target.handle("specimen", asked))
        public = VERIFIERS[size].from_public_bytes(theirs["public_key"])
        public.verify(theirs["signature"], b"message", context)
        with pytest.raises(InvalidSignature):
            public.verify(theirs["signature"], b"massage", context)


@pytest.mark.parametrize("size", ["768", "1024"])
def test_each_provider_opens_the_ml_kem_ciphertexts_of_the_other(size: str) -> None:
    target, name = PqTarget({}, None), {"algorithm": f"ml-kem-{size}"}
    for _ in range(10):
        key = KEMS[size].generate()
        made = target.handle("encaps", {**name, "public_key": key.public_key().public_bytes_raw()})
        theirs = cast("dict[str, bytes]", made)
        assert key.decapsulate(theirs["ciphertext"]) == theirs["shared_secret"]
        pair = cast("dict[str, bytes]", target.handle("keygen", name))
        secret, ciphertext = ENCAPSULATORS[size].from_public_bytes(pair["public_key"]).encapsulate()
        opened = target.handle("decaps", {**name, "secret_key": pair["secret_key"], "ciphertext": ciphertext})
        assert opened == {"shared_secret": secret}


def test_an_slh_dsa_signature_of_the_worker_is_good_in_an_independent_implementation() -> None:
    target, name = PqTarget({}, None), {"algorithm": "slh-dsa-sha2-128s"}
    pair = cast("dict[str, bytes]", target.handle("keygen", name))
    asked = {**name, "secret_key": pair["secret_key"], "message": b"anchor", "context": CONTEXT}
    signature = cast("dict[str, bytes]", target.handle("sign", asked))["signature"]
    key = slhdsa.PublicKey.from_digest(pair["public_key"], parameters.sha2_128s)
    assert key.verify_pure(b"anchor", signature, ctx=CONTEXT)
    assert not key.verify_pure(b"anchor", signature, ctx=b"qedge/v1/other")
    assert not key.verify_pure(b"anchor", signature)


def test_the_worker_takes_an_slh_dsa_signature_of_an_independent_implementation() -> None:
    pair = slhdsa.KeyPair.gen(parameters.sha2_128f)
    signature = pair.sign_pure(b"anchor", ctx=CONTEXT)
    target = PqTarget({}, None)
    asked = {
        "algorithm": "slh-dsa-sha2-128f",
        "public_key": pair.pub.digest(),
        "message": b"anchor",
        "signature": signature,
        "context": CONTEXT,
    }
    assert target.handle("verify", asked) is True
    assert target.handle("verify", {**asked, "context": b""}) is False
    assert target.handle("verify", {**asked, "signature": signature[:-1]}) is False


def test_names_of_the_registry_are_modules_of_pqcrypto() -> None:
    import pqcrypto

    from qedge.crypto.registry import ALGORITHMS

    assert [
        row.name
        for row in ALGORITHMS.values()
        if row.provider == "pqcrypto" and not hasattr(pqcrypto, module_name(row.name))
    ] == []
