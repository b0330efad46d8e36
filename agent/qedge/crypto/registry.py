"""Every algorithm that the product knows by name, what may be done with it, and the suites of sessions.

One table: what is not in it is unknown, what is refused stays in it with its reason and its replacement. Sizes are in
bytes, as FIPS 203, 204 and 205, RFC 8439 and NIST SP 800-38D give them, or as the provider does where there is no
standard yet. Names are lower case; `look_up` takes any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.settings import show
from qedge.crypto.config import CryptoConfig


class Kind(StrEnum):
    """What an algorithm does; `GROUP` is a key exchange as TLS names it."""

    KEM = "kem"
    SIGNATURE = "signature"
    AEAD = "aead"
    HASH = "hash"
    KDF = "kdf"
    GROUP = "group"


class Status(StrEnum):
    """What may be done: use it; use it where an operator asked for it; nothing yet; nothing ever."""

    ALLOWED = "allowed"
    EXPERIMENTAL = "experimental"
    RESERVED = "reserved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One row. `category` is NIST's (1, 2, 3, 5; 0: none stated); `sizes` maps a part to its bytes.

    Parts: `public_key`, `secret_key`, `ciphertext`, `shared_secret`, `signature`, `key`, `nonce`, `tag`, `digest`. A
    secret key is what is stored: the seed where the provider takes one.
    """

    name: str
    kind: Kind
    status: Status
    provider: str = ""
    category: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    standard: str = ""
    reason: str = ""
    reference: str = ""
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What a session is made of. `number` is bound into every frame; `group` is what TLS calls `key_exchange`.

    `category` is the lowest NIST category of key exchange and signature; `alpn` the name under which it is agreed on.
    """

    number: int
    key_exchange: str
    group: str
    signature: str
    aead: str
    hash: str
    category: int

    @property
    def alpn(self) -> bytes:
        """Return the protocol name of the suite in the handshake (RFC 7301)."""
        return b"qedge/%d" % self.number


SUITES: Final[Mapping[int, Suite]] = {
    suite.number: suite
    for suite in (
        Suite(1, "mlkem768-x25519", "X25519MLKEM768", "ml-dsa-65", "aes-256-gcm", "sha-256", 3),
        Suite(2, "mlkem1024-p384", "SecP384r1MLKEM1024", "ml-dsa-87", "aes-256-gcm", "sha-384", 5),
        Suite(3, "mlkem768-x25519", "X25519MLKEM768", "ml-dsa-65", "chacha20-poly1305", "sha-256", 3),
    )
}

PREFERENCE: Final = (1, 3, 2)
"""Order in which suites are offered: suite 2 costs seven times as much, so it comes up only where the floor asks."""

_FIRST: Final = "cryptography"
_SECOND: Final = "pqcrypto"
_ALLOWED, _TRIAL, _RESERVED, _REFUSED = Status.ALLOWED, Status.EXPERIMENTAL, Status.RESERVED, Status.REFUSED


def _kem(
    name: str, category: int, public: int, cipher: int, standard: str, reason: str = "", secret: int = 64
) -> Algorithm:
    sizes = {"public_key": public, "secret_key": secret, "ciphertext": cipher, "shared_secret": 32}
    return Algorithm(name, Kind.KEM, _ALLOWED, _FIRST, category, sizes, standard, reason)


def _signature(name: str, category: int, public: int, signature: int, reason: str) -> Algorithm:
    sizes = {"public_key": public, "secret_key": 32, "signature": signature}
    return Algorithm(name, Kind.SIGNATURE, _ALLOWED, _FIRST, category, sizes, "FIPS 204", reason)


def _trial_kem(name: str, category: int, sizes: tuple[int, int, int], reason: str, reference: str) -> Algorithm:
    parts = dict(zip(("public_key", "secret_key", "ciphertext"), sizes, strict=True)) | {"shared_secret": 32}
    better = "ml-kem-1024" if category == 5 else "ml-kem-768"
    return Algorithm(name, Kind.KEM, _TRIAL, _SECOND, category, parts, "", reason, reference, better)


def _slh_dsa() -> Iterator[Algorithm]:
    signed = {"128s": 7856, "128f": 17088, "192s": 16224, "192f": 35664, "256s": 29792, "256f": 49856}
    for hash_name in ("sha2", "shake"):
        for size, signature in signed.items():
            bits = int(size[:3])
            yield Algorithm(
                f"slh-dsa-{hash_name}-{size}",
                Kind.SIGNATURE,
                _TRIAL,
                _SECOND,
                {128: 1, 192: 3, 256: 5}[bits],
                {"public_key": bits // 4, "secret_key": bits // 2, "signature": signature},
                "FIPS 205",
                "second signature of the root only: one provider, no foreign vectors, slow",
                "https://doi.org/10.6028/NIST.FIPS.205",
                "ml-dsa-87",
            )


def _symmetric() -> Iterator[Algorithm]:
    frame = {"key": 32, "nonce": 12, "tag": 16}
    yield Algorithm("aes-256-gcm", Kind.AEAD, _ALLOWED, _FIRST, 5, frame, "NIST SP 800-38D", "nonces of 12 bytes only")
    yield Algorithm("chacha20-poly1305", Kind.AEAD, _ALLOWED, _FIRST, 0, frame, "RFC 8439", "no NIST algorithm")
    for name, size, category, standard in (
        ("sha-256", 32, 2, "FIPS 180-4"),
        ("sha-384", 48, 4, "FIPS 180-4"),
        ("sha-512", 64, 5, "FIPS 180-4"),
        ("sha3-256", 32, 2, "FIPS 202"),
    ):
        yield Algorithm(name, Kind.HASH, _ALLOWED, _FIRST, category, {"digest": size}, standard)
    only_content = "content addresses and caches only, never in a protocol"
    paper = "https://github.com/BLAKE3-team/BLAKE3-specs"
    yield Algorithm("blake3", Kind.HASH, _ALLOWED, "blake3", 0, {"digest": 32}, "", only_content, paper, "sha3-256")
    yield Algorithm("hkdf", Kind.KDF, _ALLOWED, _FIRST, 0, {}, "RFC 5869", "with the hash of the suite")
    yield Algorithm("hmac", Kind.KDF, _ALLOWED, _FIRST, 0, {}, "FIPS 198-1", "with SHA-2 or SHA-3")


def _rows() -> Iterator[Algorithm]:
    yield _kem("mlkem768-x25519", 3, 1216, 1120, "X-Wing, HPKE KEM 0x647a", "default of sessions; hybrid", 96)
    yield _kem("mlkem1024-p384", 5, 1665, 1665, "HPKE KEM 0x0051", "hybrid; seven times the cost of the default", 112)
    yield _kem("ml-kem-768", 3, 1184, 1088, "FIPS 203")
    yield _kem("ml-kem-1024", 5, 1568, 1568, "FIPS 203")
    for name, category, parts in (
        ("x25519mlkem768", 3, "mlkem768-x25519"),
        ("secp384r1mlkem1024", 5, "mlkem1024-p384"),
    ):
        yield Algorithm(
            name, Kind.GROUP, _ALLOWED, _FIRST, category, {}, "draft-ietf-tls-ecdhe-mlkem", f"{parts} inside TLS 1.3"
        )
    yield _signature("ml-dsa-44", 2, 1312, 2420, "devices only")
    yield _signature("ml-dsa-65", 3, 1952, 3309, "default of nodes")
    yield _signature("ml-dsa-87", 5, 2592, 4627, "root of a fleet")
    yield from _slh_dsa()
    fourth = ("selected in March 2025; its standard is not final", "https://doi.org/10.6028/NIST.IR.8545")
    yield _trial_kem("hqc-128", 1, (2241, 2321, 4433), *fourth)
    yield _trial_kem("hqc-192", 3, (4514, 4602, 8978), *fourth)
    yield _trial_kem("hqc-256", 5, (7237, 7333, 14421), *fourth)
    yield _trial_kem("sntrup761", 2, (1158, 1763, 1039), "not a NIST standard", "https://ntruprime.cr.yp.to/")
    for size, category, sizes in (
        (348864, 1, (261120, 6492, 96)),
        (460896, 3, (524160, 13608, 156)),
        (6688128, 5, (1044992, 13932, 208)),
        (6960119, 5, (1047319, 13948, 194)),
        (8192128, 5, (1357824, 14120, 208)),
    ):
        yield _trial_kem(
            f"mceliece-{size}",
            category,
            sizes,
            "not a NIST standard; keys too large for links",
            "https://classic.mceliece.org/",
        )
    for name, category, better in (("falcon-512", 1, "ml-dsa-65"), ("falcon-1024", 5, "ml-dsa-87")):
        draft = "https://csrc.nist.gov/projects/post-quantum-cryptography"
        yield Algorithm(
            name, Kind.SIGNATURE, _RESERVED, "", category, {}, "FIPS 206 (draft)", "standard not final", draft, better
        )
    yield from _symmetric()


ALGORITHMS: Final[Mapping[str, Algorithm]] = {row.name: row for row in _rows()}
"""Name → row, in the order in which people read it; refused families stand in `REFUSED`."""

_SIKE: Final = (
    "broken in 2022: SIKEp434 falls in an hour on one core (Castryck, Decru)",
    "https://eprint.iacr.org/2022/975",
)
_EARLY_KEM: Final = ("came before the standard and is not compatible with it", "https://doi.org/10.6028/NIST.FIPS.203")
_EARLY_SIGNATURE: Final = (_EARLY_KEM[0], "https://doi.org/10.6028/NIST.FIPS.204")
_EARLY_HASH_BASED: Final = (_EARLY_KEM[0], "https://doi.org/10.6028/NIST.FIPS.205")
_NEWHOPE: Final = ("left behind in round 2 of the NIST process", "https://doi.org/10.6028/NIST.IR.8309")
_RAINBOW: Final = ("broken in 2022: a weekend on a laptop (Beullens)", "https://eprint.iacr.org/2022/214")
_PREHASH: Final = ("providers disagree on what is hashed", "https://doi.org/10.6028/NIST.FIPS.204")
_CLASSICAL: Final = (
    "a quantum computer breaks it; used only as one half of a hybrid",
    "https://doi.org/10.6028/NIST.IR.8547.ipd",
)
_WEAK_KEM: Final = ("category 1 is below every floor", "https://doi.org/10.6028/NIST.FIPS.203")


def _refused(kind: Kind, why: tuple[str, str], replacement: str, *patterns: str) -> Iterator[tuple[str, Algorithm]]:
    for pattern in patterns:
        yield pattern, Algorithm(pattern, kind, _REFUSED, reason=why[0], reference=why[1], replacement=replacement)


REFUSED: Final[tuple[tuple[str, Algorithm], ...]] = (
    *_refused(Kind.KEM, _EARLY_KEM, "ml-kem-1024", "kyber*1024*"),
    *_refused(Kind.KEM, _EARLY_KEM, "ml-kem-768", "kyber*"),
    *_refused(Kind.KEM, _WEAK_KEM, "ml-kem-768", "ml-kem-512"),
    *_refused(Kind.SIGNATURE, _EARLY_SIGNATURE, "ml-dsa-87", "dilithium*5*"),
    *_refused(Kind.SIGNATURE, _EARLY_SIGNATURE, "ml-dsa-65", "dilithium*"),
    *_refused(Kind.SIGNATURE, _PREHASH, "ml-dsa-87", "hash-ml-dsa-87*"),
    *_refused(Kind.SIGNATURE, _PREHASH, "ml-dsa-65", "hash-ml-dsa*"),
    *_refused(Kind.SIGNATURE, _PREHASH, "ml-dsa-87", "hash-slh-dsa*"),
    *_refused(Kind.SIGNATURE, _EARLY_HASH_BASED, "ml-dsa-87", "sphincs*"),
    *_refused(Kind.KEM, _SIKE, "ml-kem-768", "sike*", "sidh*"),
    *_refused(Kind.KEM, _NEWHOPE, "ml-kem-768", "newhope*"),
    *_refused(Kind.SIGNATURE, _RAINBOW, "ml-dsa-65", "rainbow*"),
    *_refused(Kind.KEM, _CLASSICAL, "mlkem1024-p384", "p-384", "secp384r1", "ecdh-p384", "p-521", "secp521r1", "x448"),
    *_refused(Kind.KEM, _CLASSICAL, "mlkem768-x25519", "x25519", "p-256", "secp256r1", "ecdh*", "dh", "ffdhe*"),
    *_refused(Kind.SIGNATURE, _CLASSICAL, "ml-dsa-65", "ed25519*", "ed448*", "ecdsa*", "rsa*", "dsa"),
)
"""Patterns of names, the first that fits counts, and why nothing of that name is used."""


def look_up(name: str) -> Algorithm | None:
    """Return the row of a name, in any case; a refused family answers for each of its names. None: unknown."""
    wanted = name.strip().lower().replace("_", "-")
    known = ALGORITHMS.get(wanted)
    if known is not None:
        return known
    for pattern, row in REFUSED:
        if fnmatchcase(wanted, pattern):
            return replace(row, name=wanted)
    return None


def require_usable(name: str, *, experimental: bool) -> Algorithm:
    """Return the row of an algorithm that may be used.

    Raises `crypto.unknown_algorithm`, `crypto.refused_algorithm`, or `crypto.unavailable_algorithm` for a reserved one
    and, without `experimental`, for an experimental one. The fix names what to use instead.
    """
    row = look_up(name)
    shown = show("", name)
    if row is None:
        import difflib  # which only mistakes need

        near = difflib.get_close_matches(name.lower(), ALGORITHMS, n=1)
        hint = f"The nearest known name is {near[0]}; " if near else ""
        raise QedgeError(
            "crypto.unknown_algorithm",
            f"No algorithm is called {shown}.",
            fix=f"{hint}`qedge crypto list` shows all of them.",
        )
    instead = f"Use {row.replacement}" if row.replacement else "Choose another one"
    if row.status is Status.REFUSED:
        raise QedgeError(
            "crypto.refused_algorithm",
            f"{shown} is refused: {row.reason} ({row.reference}).",
            fix=f"{instead} instead.",
        )
    if row.status is Status.RESERVED:
        raise QedgeError("crypto.unavailable_algorithm", f"{shown} is unavailable: {row.reason}.", fix=f"{instead}.")
    if row.status is Status.EXPERIMENTAL and not experimental:
        raise QedgeError(
            "crypto.unavailable_algorithm",
            f"{shown} is experimental: {row.reason}.",
            fix=f"{instead}, or set crypto.experimental = true.",
        )
    return row


def suites_of(algorithm: str, suites: Sequence[Suite]) -> tuple[Suite, ...]:
    """Return those of `suites` for which a certificate with a key of `algorithm` is strong enough.

    Raises `crypto.no_suite` where there are none.
    """
    own = ALGORITHMS[algorithm].category
    fitting = tuple(suite for suite in suites if own >= ALGORITHMS[suite.signature].category)
    if not fitting:
        raise QedgeError(
            "crypto.no_suite",
            f"No suite that is allowed here fits this node's {algorithm} certificate.",
            fix="Lower crypto.floor, or join a fleet of level 5.",
        )
    return fitting


def usable_suites(config: CryptoConfig) -> tuple[Suite, ...]:
    """Return the suites that the settings allow, in order of preference; may be empty."""
    exchanges, signatures, ciphers = (
        {name.lower() for name in names} for names in (config.key_exchange, config.signatures, config.ciphers)
    )
    return tuple(
        suite
        for suite in (SUITES[number] for number in PREFERENCE)
        if suite.category >= config.floor
        and suite.key_exchange in exchanges
        and suite.signature in signatures
        and suite.aead in ciphers
    )
