"""Who may do what over HTTP: rules only, no sockets. What no rule grants is refused.

The unix socket knows its peer's user from the kernel and carries everything for those who are listed. Loopback TCP
knows nobody: any user of the box, and any web page in a browser on it, can reach the port. It carries what is public
on the box, and with a page session what the page needs, never administration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from qedge.base.errors import QedgeError


class Right(StrEnum):
    """What a route asks of its caller."""

    PUBLIC = "public"
    """Health, metrics and the empty shell of the page."""
    VIEW = "view"
    SUBMIT = "submit"
    DRAW = "draw"
    MEASURE = "measure"
    KEYS = "keys"
    """Taking and collecting keys, and deciding which applications may."""
    APP = "app"
    """What an app of this node may ask for: policy decides about every reading and every command."""
    ADMIN = "admin"
    """Locking and reconfiguring drivers, pinging peers, making page links."""


class Door(StrEnum):
    """Through which listener a request came."""

    UNIX = "unix"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `uid` and `gids` come from the kernel (unix socket only, −1 and empty elsewhere)."""

    door: Door
    uid: int = -1
    gids: frozenset[int] = frozenset()
    session: bool = False

    @property
    def label(self) -> str:
        """Return the name under which jobs of this caller are kept."""
        return f"uid:{self.uid}" if self.door is Door.UNIX else "page"


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is let in at the unix socket, and under which `Host` values the TCP listener answers.

    `apps` are users that may act as these apps and do nothing else.
    """

    daemon_uid: int
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    apps: Mapping[int, frozenset[str]] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()


_EVERYTHING: Final = frozenset(Right)
_PUBLIC: Final = frozenset({Right.PUBLIC})
_APP: Final = frozenset({Right.PUBLIC, Right.APP})
_PAGE: Final = frozenset({Right.PUBLIC, Right.VIEW, Right.SUBMIT, Right.DRAW, Right.MEASURE})

_OWN_SITE: Final = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of requests that no other site caused: our own page, or the address bar."""


def granted(caller: Caller, rules: Rules) -> frozenset[Right]:
    """Return everything `caller` may do."""
    if caller.door is Door.UNIX:
        known = caller.uid in (0, rules.daemon_uid) or caller.uid in rules.uids
        if known or not rules.gids.isdisjoint(caller.gids):
            return _EVERYTHING
        return _APP if caller.uid in rules.apps else frozenset()
    return _PAGE if caller.session else _PUBLIC


def check_right(caller: Caller, right: Right, rules: Rules) -> None:
    """Raise `access.no_session` or `access.denied` where `caller` may not do this."""
    if right in granted(caller, rules):
        return
    if caller.door is Door.UNIX:
        raise QedgeError(
            "access.denied",
            f"User {caller.uid} may not use this node.",
            fix="Run the command as the daemon's user or root, or have the user added to http.allowed_uids.",
        )
    if right in _PAGE:
        raise QedgeError(
            "access.no_session", "This needs a page session.", fix="Run `qedge open` and use the link it prints."
        )
    raise QedgeError(
        "access.denied",
        "This is not offered over TCP.",
        fix="Use the unix socket: the `qedge` command does.",
    )


def check_app(caller: Caller, app: str, rules: Rules) -> None:
    """Raise `access.denied` where `caller` may not act as an app: it is an operator, or the app is its own."""
    own = rules.apps.get(caller.uid, frozenset()) if caller.door is Door.UNIX else frozenset()
    if Right.ADMIN in granted(caller, rules) or app in own:
        return
    raise QedgeError(
        "access.denied",
        f"User {caller.uid} is not the app {app}.",
        fix="Name the app that is yours, or have the user added to http.apps.",
    )


def host_names(host: str, port: int) -> frozenset[str]:
    """Return the `Host` values under which a loopback listener may be asked; any other is DNS rebinding."""
    literal = f"[{host}]" if ":" in host else host
    names = {literal, "localhost"}
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


def check_site(headers: Mapping[str, str], rules: Rules, *, safe: bool, navigation: bool) -> None:
    """Raise `access.bad_origin` for requests that another web site caused (TCP only).

    `safe`: the method changes nothing; `navigation`: the route is the page's shell, which any site may link to.
    """
    host = headers.get("Host", "").lower()
    if host not in rules.hosts:
        raise QedgeError("access.bad_origin", "The Host header does not name this node.", fix=_OPEN)
    origin = headers.get("Origin", "")
    if origin and origin.lower() != f"http://{host}":
        raise QedgeError("access.bad_origin", "The Origin header names another site.", fix=_OPEN)
    site = headers.get("Sec-Fetch-Site", "")
    if site in _OWN_SITE or not site:
        return
    mode = headers.get("Sec-Fetch-Mode", "")
    if not (navigation and safe and mode == "navigate" and headers.get("Sec-Fetch-Dest", "") == "document"):
        raise QedgeError("access.bad_origin", "Another web site caused this request.", fix=_OPEN)


_OPEN: Final = "Open the page with the link that `qedge open` prints."
