"""Structs that only the local HTTP interface speaks: health, lists, and the way into the page."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.node import LinkView


class Readiness(msgspec.Struct, frozen=True, tag_field="type", tag="readiness/1"):
    """Whether the node does its work now: `reasons` say why not, `ages_s` how old each sign of life is (−1: none)."""

    ready: bool
    reasons: tuple[str, ...] = ()
    ages_s: dict[str, float] = {}


class Live(msgspec.Struct, frozen=True):
    """The event loop runs."""

    live: bool


class LinkList(msgspec.Struct, frozen=True, tag_field="type", tag="link-list/1"):
    """All configured QKD links."""

    links: tuple[LinkView, ...]


class PageLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="page-login/1"):
    """The token of a one-time page link, traded for a session."""

    token: Annotated[str, msgspec.Meta(max_length=128)]


class PageSession(msgspec.Struct, frozen=True, tag_field="type", tag="page-session/1"):
    """A page session: the cookie comes as a header, `proof` goes into the header `Qedge-Proof` of each request."""

    proof: str
    expires_s: float
