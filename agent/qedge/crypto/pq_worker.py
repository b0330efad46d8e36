"""A worker's target: the algorithms of the second provider, by their names in the registry.

pqcrypto holds the interpreter lock for every call, some of which take seconds, so it runs in a process of its own; no
other module imports it. Its rules, each the answer to a fault of release 1.0: contexts of at most 64 bytes (it fails
from 254), never `hash_algorithm` (it takes a digest where its manual passes the message), no ML-DSA signatures of
lasting keys (slow, and its keys have no seed). ML-DSA and ML-KEM are here only to check the first provider.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from statistics import median
from typing import Final, Protocol, cast

from qedge.base.errors import QedgeError
from qedge.crypto.keys import MAX_CONTEXT_BYTES
from qedge.crypto.registry import Algorithm, Kind, require_usable

TARGET: Final = "qedge.crypto.pq_worker:PqTarget"
PROVIDER: Final = "pqcrypto"
CHECKED: Final = ("ml-kem-768", "ml-kem-1024", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
"""Algorithms of the first provider that this one checks."""

_MESSAGE: Final = b"qedge self test"
_CONTEXT: Final = b"qedge/v1/self-test"
_SLOW_MS: Final = 200.0

Answer = bool | dict[str, str | bytes | float | int | bool]


class _Kem(Protocol):
    def keygen(self) -> tuple[bytes, bytes]: ...
    def encaps(self, public_key: bytes) -> tuple[bytes, bytes]:
        """Return ciphertext and secret, in the order opposite to that of `cryptography`."""
        ...

    def decaps(self, secret_key: bytes, ciphertext: bytes) -> bytes: ...


class _Signature(Protocol):
    def keygen(self) -> tuple[bytes, bytes]: ...
    def sign(self, secret_key: bytes, message: bytes, *, context: bytes) -> bytes: ...
    def verify(self, public_key: bytes, message: bytes, signature: bytes, *, context: bytes) -> None: ...


class PqTarget:
    """Answers `keygen`, `sign`, `verify`, `encaps`, `decaps`, `specimen` and `test`.

    Every call names its `algorithm`; keys, messages, signatures and ciphertexts are bytes under the names that
    `Algorithm.sizes` uses, with `message` and `context`. Raises the errors of `require_usable`, `auth.bad_key` for a
    key or ciphertext of the wrong size, and `crypto.unavailable_algorithm` for what pqcrypto does not do here.
    """

    def __init__(self, _init: Mapping[str, object], _link: object) -> None:
        """Load the library now, so that the first call does not pay for it."""
        importlib.import_module(PROVIDER)

    def handle(self, method: str, args: Mapping[str, object]) -> Answer:
        """Answer one call."""
        row = _row(_text(args, "algorithm"))
        if method == "test":
            runs = args.get("runs", 3)
            return self_test(row, runs if isinstance(runs, int) else 3)
        if row.kind is Kind.KEM:
            return _kem_call(row, method, args)
        return _signature_call(row, method, args)


def self_test(row: Algorithm, runs: int) -> Answer:
    """Run round trips; `ok`, `problem`, the `sizes` seen, and the median time of one in `ms`.

    What takes longer than 0.2 s runs once.
    """
    times: list[float] = []
    problem, sizes = "", dict[str, int]()
    while not problem and len(times) < max(1, runs):
        start = time.perf_counter_ns()
        problem, sizes = (_try_kem if row.kind is Kind.KEM else _try_signature)(row)
        times.append((time.perf_counter_ns() - start) / 1e6)
        if times[-1] > _SLOW_MS:
            break
    wrong = [part for part, size in sizes.items() if row.name not in CHECKED and row.sizes.get(part) != size]
    if not problem and wrong:
        problem = "other sizes than the registry has: " + ", ".join(f"{part} {sizes[part]} bytes" for part in wrong)
    return {"ok": not problem, "problem": problem, "ms": median(times), "runs": len(times)}


def _try_kem(row: Algorithm) -> tuple[str, dict[str, int]]:
    library = _kem(row)
    public, secret = library.keygen()
    ciphertext, shared = library.encaps(public)
    sizes = {
        "public_key": len(public),
        "secret_key": len(secret),
        "ciphertext": len(ciphertext),
        "shared_secret": len(shared),
    }
    agreed = library.decaps(secret, ciphertext) == shared
    return ("" if agreed else "both sides have different secrets"), sizes


def _try_signature(row: Algorithm) -> tuple[str, dict[str, int]]:
    library = _signature(row)
    public, secret = library.keygen()
    signature = library.sign(secret, _MESSAGE, context=_CONTEXT)
    sizes = {"public_key": len(public), "secret_key": len(secret), "signature": len(signature)}
    if not _is_good(library, public, _MESSAGE, signature, _CONTEXT):
        return "a good signature is refused", sizes
    if _is_good(library, public, _MESSAGE + b".", signature, _CONTEXT):
        return "a signature of another message is taken", sizes
    if _is_good(library, public, _MESSAGE, signature, b"other"):
        return "a signature of another context is taken", sizes
    return "", sizes


def _kem_call(row: Algorithm, method: str, args: Mapping[str, object]) -> Answer:
    library = _kem(row)
    try:
        if method == "keygen":
            public, secret = library.keygen()
            return {"public_key": public, "secret_key": secret}
        if method == "encaps":
            ciphertext, shared = library.encaps(_bytes(args, "public_key"))
            return {"ciphertext": ciphertext, "shared_secret": shared}
        if method == "decaps":
            return {"shared_secret": library.decaps(_bytes(args, "secret_key"), _bytes(args, "ciphertext"))}
    except ValueError as error:
        raise QedgeError("auth.bad_key", f"A key or ciphertext is not one of {row.name}.") from error
    raise _not_offered(row, method)


def _signature_call(row: Algorithm, method: str, args: Mapping[str, object]) -> Answer:
    library = _signature(row)
    lasting = row.name not in CHECKED
    try:
        if method == "keygen" and lasting:
            public, secret = library.keygen()
            return {"public_key": public, "secret_key": secret}
        if method == "sign" and lasting:
            key = _bytes(args, "secret_key")
            return {"signature": library.sign(key, _bytes(args, "message"), context=_context(args))}
        if method == "specimen":
            public, secret = library.keygen()
            signature = library.sign(secret, _bytes(args, "message"), context=_context(args))
            return {"public_key": public, "signature": signature}
    except ValueError:
        raise QedgeError("auth.bad_key", f"A key is not one of {row.name}.") from None
    if method == "verify":
        key, signature = _bytes(args, "public_key"), _bytes(args, "signature")
        return _is_good(library, key, _bytes(args, "message"), signature, _context(args))
    raise _not_offered(row, method)


def _is_good(library: _Signature, key: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
    try:
        library.verify(key, message, signature, context=context)
    except ValueError:  # its InvalidSignatureError is one; so are wrong lengths
        return False
    return True


def _row(name: str) -> Algorithm:
    row = require_usable(name, experimental=True)
    if row.provider != PROVIDER and row.name not in CHECKED:
        raise _not_offered(row, "this")
    return row


def module_name(name: str) -> str:
    """Return pqcrypto's name of an algorithm: `slh_dsa_sha2_128s`, `sntrup_761`, `mceliece_348864`."""
    return name.replace("sntrup", "sntrup_").replace("-", "_")


def _kem(row: Algorithm) -> _Kem:
    return cast("_Kem", getattr(importlib.import_module("pqcrypto.kem"), module_name(row.name)))


def _signature(row: Algorithm) -> _Signature:
    return cast("_Signature", getattr(importlib.import_module("pqcrypto.sign"), module_name(row.name)))


def _not_offered(row: Algorithm, what: str) -> QedgeError:
    return QedgeError(
        "crypto.unavailable_algorithm",
        f"The second provider does not do {what} with {row.name}.",
        fix=f"{row.name} is the task of {row.provider}.",
    )


def _text(args: Mapping[str, object], key: str) -> str:
    value = args.get(key)
    return value if isinstance(value, str) else ""


def _bytes(args: Mapping[str, object], key: str) -> bytes:
    value = args.get(key)
    if not isinstance(value, bytes):
        raise QedgeError("auth.bad_key", f"The call has no {key}.")
    return value


def _context(args: Mapping[str, object]) -> bytes:
    context = args.get("context", b"")
    if not isinstance(context, bytes) or len(context) > MAX_CONTEXT_BYTES:
        raise QedgeError("auth.bad_key", f"A context has at most {MAX_CONTEXT_BYTES} bytes.")
    return context
