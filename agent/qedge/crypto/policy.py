"""Checks `[crypto]` against the registry: every name must be usable, and some suite must be left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.settings import Fault, show
from qedge.crypto.config import CryptoConfig
from qedge.crypto.registry import SUITES, Kind, Status, Suite, look_up, require_usable, usable_suites

_KEYS: Final = (
    ("key_exchange", Kind.KEM, tuple(dict.fromkeys(suite.key_exchange for suite in SUITES.values()))),
    ("signatures", Kind.SIGNATURE, tuple(dict.fromkeys(suite.signature for suite in SUITES.values()))),
    ("ciphers", Kind.AEAD, tuple(dict.fromkeys(suite.aead for suite in SUITES.values()))),
)
_WHAT: Final = {Kind.KEM: "a key exchange", Kind.SIGNATURE: "a signature", Kind.AEAD: "a cipher"}


def check_policy(config: CryptoConfig) -> Iterator[Fault]:
    """Find names that may not be used, each with its reason and replacement, and settings that leave no suite."""
    sound = True
    for key, kind, used in _KEYS:
        names: tuple[str, ...] = getattr(config, key)
        for place, name in enumerate(names):
            fault = _check_name(name, kind, used, experimental=config.experimental)
            if fault is not None:
                sound = False
                yield Fault(("crypto", key, place), *fault)
    if sound and not usable_suites(config):
        yield Fault(
            ("crypto",),
            f"leaves no suite for sessions at floor {config.floor}",
            "the parts of one suite: "
            + "; ".join(f"{each.key_exchange} + {each.signature} + {each.aead}" for each in _suites_of(config.floor)),
        )


def _check_name(name: str, kind: Kind, used: tuple[str, ...], *, experimental: bool) -> tuple[str, str] | None:
    one_of = f"one of {', '.join(used)}"
    try:
        row = require_usable(name, experimental=experimental)
    except QedgeError as error:
        known = look_up(name)
        better = known.replacement if known is not None and known.kind is kind else ""
        if better and better not in used:
            better = f"{better} (sessions have it as {_within(better, used)})" if _within(better, used) else one_of
        if known is not None and known.status is Status.EXPERIMENTAL:
            better += ", or experimental = true"
        return error.message.rstrip("."), better or one_of
    if row.kind is not kind:
        return f"is {show('', name)}, which is not {_WHAT[kind]}", one_of
    return None


def _within(name: str, used: tuple[str, ...]) -> str:
    """Return the hybrid that has an algorithm as one half: `mlkem768-x25519` of `ml-kem-768`."""
    half = name.replace("ml-kem-", "mlkem")
    return next((each for each in used if each.startswith(f"{half}-")), "")


def _suites_of(floor: int) -> Iterator[Suite]:
    return (suite for suite in SUITES.values() if suite.category >= floor)
