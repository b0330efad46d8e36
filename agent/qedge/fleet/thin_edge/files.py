"""Uploads to the file transfer service of thin-edge.io: HTTP PUT, to the one place that is configured, bounded."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import aiohttp

from qedge.base.errors import QedgeError

MAX_UPLOAD_BYTES: Final = 8 * 2**20
UPLOAD_LIMIT_S: Final = 30.0
_PATHS: Final = ("/te/v1/files/", "/tedge/file-transfer/")
"""Where the service keeps files: since 1.0, and before."""


def require_ours(url: str, base: str) -> None:
    """Raise `adapter.refused` where an address is none of the configured file transfer service.

    Whoever may publish at the local broker could otherwise have the node send its settings and log anywhere.
    """
    try:
        wanted, ours = urlsplit(url), urlsplit(base)
        same = (wanted.scheme, wanted.hostname, wanted.port) == (ours.scheme, ours.hostname, ours.port)
    except ValueError:
        same = False
        wanted = urlsplit("")
    plain = wanted.username is None and wanted.password is None and not wanted.query and not wanted.fragment
    steps = unquote(wanted.path).replace("\\", "/").split("/")
    if not (same and plain and wanted.path.startswith(_PATHS)) or ".." in steps or not wanted.path.isprintable():
        raise QedgeError(
            "adapter.refused",
            "The address for the upload is not at the configured file transfer service.",
            fix=f"Use an address below {base}{_PATHS[0]}, or set fleet.thin_edge.files.",
        )


def address(base: str, service: str, kind: str, name: str) -> str:
    """Return where a file goes when the command does not say."""
    return f"{base}{_PATHS[0]}{quote(service, safe='')}/{kind}/{quote(name, safe='')}"


class FileTransfer:
    """The client of one service; `base` is its scheme, host and port."""

    def __init__(self, base: str, *, tls: ssl.SSLContext | None = None, limit_s: float = UPLOAD_LIMIT_S) -> None:
        self.base = base.rstrip("/")
        self._tls = tls
        self._limit_s = limit_s

    async def put(self, url: str, data: bytes) -> None:
        """Upload; doing it twice is the same as once. Raises `adapter.refused`, `adapter.not_uploaded`."""
        require_ours(url, self.base)
        if len(data) > MAX_UPLOAD_BYTES:
            raise QedgeError("adapter.refused", f"The file has more than {MAX_UPLOAD_BYTES} bytes.")
        limits = aiohttp.ClientTimeout(total=self._limit_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=limits, trust_env=False) as session,
                session.put(url, data=data, allow_redirects=False, ssl=self._tls or True) as answer,
            ):
                status = answer.status
        except TimeoutError:
            raise _not_uploaded(f"it did not answer within {self._limit_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _not_uploaded(str(error) or type(error).__name__) from error
        if not 200 <= status < 300:
            raise _not_uploaded(f"it answered with status {status}")


def _not_uploaded(why: str) -> QedgeError:
    return QedgeError(
        "adapter.not_uploaded", f"The file transfer service did not take the file: {why}.", fix="Is it running?"
    )
