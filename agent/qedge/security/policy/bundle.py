"""Policies of a whole fleet: which of those that came is the newest one that counts."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.trust import POLICY_PURPOSE, Trust
from qedge.security.policy.document import parse_document
from qedge.security.policy.model import PolicyDocument
from qedge.wire.policy import PolicyBundle, SignedPolicy

FILE: Final = "the fleet's policy"


def read_bundle(signed: bytes, trust: Trust, newer_than: int = 0) -> PolicyBundle:
    """Read a bundle and check who signed it; of what is not newer nothing else is looked at.

    Raises `policy.bad_bundle` for what is none or of another fleet, `policy.old` for a serial up to `newer_than`,
    `auth.untrusted` and `auth.bad_signature` for what the fleet's authority did not sign.
    """
    try:
        outer = msgspec.msgpack.decode(signed, type=SignedPolicy)
        bundle = msgspec.msgpack.decode(outer.body, type=PolicyBundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError("policy.bad_bundle", "A signed policy cannot be read.", fix=_AGAIN) from error
    if bundle.fleet != trust.fleet:
        raise QedgeError("policy.bad_bundle", "The signed policy is of another fleet.", fix=_AGAIN)
    if bundle.serial <= newer_than:
        raise QedgeError(
            "policy.old",
            f"Policy {bundle.serial} of the fleet is not newer than {newer_than}, which is known.",
            fix="Sign it again: `qedge fleet policy FILE` takes the next serial.",
            serial=bundle.serial,
            known=newer_than,
        )
    trust.check_authority(outer.issuer, outer.signature, outer.body, POLICY_PURPOSE)
    return bundle


def check_bundle(bundle: PolicyBundle, utc_ns: int) -> PolicyDocument:
    """Read the policy in a bundle that counts at `utc_ns`; raises `policy.expired`, `policy.invalid`."""
    if utc_ns >= bundle.expires_utc_ns:
        raise QedgeError(
            "policy.expired",
            f"Policy {bundle.serial} of the fleet has expired.",
            fix="Sign it again: `qedge fleet policy FILE`.",
            serial=bundle.serial,
        )
    return parse_document(bundle.text, FILE)


def digest(text: bytes) -> str:
    """Return SHA-256 of a policy's text, in hex."""
    return hashlib.sha256(text).hexdigest()


_AGAIN: Final = "Have it signed by the authority of this node's fleet: `qedge fleet policy FILE`."
