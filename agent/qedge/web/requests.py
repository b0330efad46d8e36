"""Reading requests: who asks, bodies as structs, numbers from the query."""

from __future__ import annotations

import math
import socket
import struct
from typing import TypeVar

import msgspec
from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.access import Caller, Door
from qedge.web.state import state_of
from qedge.web.tokens import PROOF_HEADER

T = TypeVar("T", bound=msgspec.Struct)

_PEER: struct.Struct = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_MAX_GROUPS = 256  # Python's getsockopt takes a buffer of at most 1024 bytes


def caller_of(request: web.Request) -> Caller:
    """Tell who asks: by the kernel's word on the unix socket, by the two secrets of a page session on TCP."""
    state = state_of(request)
    if state.door is Door.UNIX:
        return _unix_caller(request)
    cookie = request.cookies.get(state.cookie_name, "")
    proof = request.headers.get(PROOF_HEADER, "")
    return Caller(Door.TCP, session=bool(cookie and proof) and state.tokens.is_session(cookie, proof))


def _unix_caller(request: web.Request) -> Caller:
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None:
        raise QedgeError("access.denied", "The connection is gone.")
    try:
        _pid, uid, gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    except OSError as error:
        raise QedgeError("access.denied", "The kernel does not say who asks.") from error
    return Caller(Door.UNIX, uid, frozenset({gid, *_groups(peer)}))


def _groups(peer: socket.socket) -> tuple[int, ...]:
    try:
        packed = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return ()  # before Linux 4.13, or a member of very many groups: then the primary group alone counts
    return struct.unpack(f"{len(packed) // 4}I", packed)


async def body_of(request: web.Request, kind: type[T]) -> T:
    """Decode the body as `kind`; an empty body is `kind()` where all its fields have defaults."""
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise QedgeError("http.bad_request", "The body has to be JSON.", fix="Send Content-Type: application/json.")
    body = await request.read()
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError("http.bad_request", f"The body cannot be read: {error}.") from error


def number_of(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """Read a number from the query, `low` … `high`."""
    text = request.query.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise QedgeError("http.bad_request", f"{name} has to be a number, {low:g} … {high:g}.")
    return value


def name_of(request: web.Request, part: str = "name") -> str:
    """Read a name from the path; raises `http.not_found` for what can be no name."""
    name = request.match_info[part]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return name
