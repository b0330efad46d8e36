"""Settings of the HTTP interface."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import msgspec

SOCKET_NAME = "qedge.sock"

_LOOPBACK = r"^(127(\.[0-9]{1,3}){3}|::1)$"


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[http]`: the unix socket that carries everything, and the loopback listener for health, metrics and the page."""

    enabled: Annotated[
        bool, msgspec.Meta(description="Listen on loopback TCP too; the unix socket is always there.")
    ] = True
    host: Annotated[
        str, msgspec.Meta(description="Loopback address of the TCP listener.", pattern=_LOOPBACK, max_length=15)
    ] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(description="TCP port; 0 takes a free one at each start.", ge=0, le=65_535)] = 0
    page: Annotated[bool, msgspec.Meta(description="Serve the live page to those who opened it with `qedge open`.")] = (
        True
    )
    socket: Annotated[
        str,
        msgspec.Meta(
            description="Path of the unix socket; empty: `qedge.sock` in the runtime directory.", max_length=100
        ),
    ] = ""
    socket_group: Annotated[
        str,
        msgspec.Meta(description="Group whose members may use the unix socket; empty: none.", max_length=64),
    ] = ""
    allowed_uids: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...],
        msgspec.Meta(description="Users allowed besides root and the daemon's own, by number.", max_length=64),
    ] = ()
    allowed_gids: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...],
        msgspec.Meta(description="Groups whose members are allowed, by number.", max_length=64),
    ] = ()
    apps: Annotated[
        dict[
            Annotated[
                str,
                msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title="at most 36 letters, digits, - and _"),
            ],
            Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...], msgspec.Meta(max_length=64)],
        ],
        msgspec.Meta(
            description="Apps in programs of their own, each with the users, by number, that it runs as. They may read "
            "segments and command devices as policy lets the app, and nothing else.",
            max_length=64,
        ),
    ] = {}
    body_limit_bytes: Annotated[int, msgspec.Meta(description="Largest request body.", ge=1024, le=64 * 2**20)] = (
        4 * 2**20
    )
    request_limit_s: Annotated[
        float, msgspec.Meta(description="Longest time for one request, waiting for jobs aside.", ge=1, le=600)
    ] = 60.0
    head_limit_s: Annotated[
        float, msgspec.Meta(description="Time within which a new connection must have sent a request.", ge=0.1, le=60)
    ] = 10.0
    max_connections: Annotated[
        int, msgspec.Meta(description="Open connections on each of the two listeners.", ge=8, le=10_000)
    ] = 256
    max_streams: Annotated[
        int, msgspec.Meta(description="Open event streams, all callers together.", ge=1, le=1000)
    ] = 32
    stream_buffer: Annotated[
        int, msgspec.Meta(description="Events kept for a slow reader before the oldest is dropped.", ge=8, le=10_000)
    ] = 256
    status_interval_s: Annotated[
        float, msgspec.Meta(description="Time between two status events on a stream.", ge=0.05, le=60)
    ] = 1.0
    page_link_s: Annotated[
        float, msgspec.Meta(description="Time within which a one-time page link must be opened.", ge=5, le=3600)
    ] = 120.0
    page_session_s: Annotated[
        float, msgspec.Meta(description="Time after which the page asks for a new link.", ge=60, le=7 * 86_400)
    ] = 43_200.0


def socket_path(config: WebConfig, runtime_dir: str) -> str:
    """Return where the unix socket is, given the daemon's runtime directory."""
    return config.socket or str(PurePath(runtime_dir) / SOCKET_NAME)


def socket_mode(config: WebConfig) -> int:
    """Return the file mode of the unix socket: as tight as the list of allowed callers lets it be.

    Users or groups given by number cannot all be written into one file mode, so then anyone may connect and the
    peer's credentials alone decide.
    """
    if config.allowed_uids or config.allowed_gids or config.apps:
        return 0o666
    return 0o660 if config.socket_group else 0o600
