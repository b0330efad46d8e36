"""TLS of the listener, by pyOpenSSL, whose OpenSSL knows the post-quantum group that the platform's often does not.

The server offers X25519MLKEM768 first and, unless it is told to insist on it, classical groups for devices that know no
other: what they send is sealed in any case. Which group a connection got is counted. Certificates are of a classical
algorithm, as for HTTPS (decision 0049): devices' TLS libraries know no other yet.
"""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL
from OpenSSL._util import lib as openssl

from qedge.base.errors import QedgeError

HYBRID: Final = "X25519MLKEM768"
_CLASSICAL: Final = "X25519:P-256"


def hybrid_available() -> bool:
    """Say whether this OpenSSL knows the hybrid group."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    found: int = openssl.SSL_CTX_set1_curves_list(context._context, HYBRID.encode())
    openssl.ERR_clear_error()
    return found == 1


def server_context(cert_file: str, key_file: str, *, require_hybrid: bool) -> SSL.Context:
    """Read the certificate and make the settings of the listener; raises `devices.bad_certificate`."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    hybrid = hybrid_available()
    if require_hybrid and not hybrid:
        raise QedgeError(
            "devices.bad_certificate",
            f"The OpenSSL of this box does not know {HYBRID}.",
            fix="Set devices.listener.require_hybrid to false, or bring pyOpenSSL up to date.",
        )
    context.set_min_proto_version(SSL.TLS1_3_VERSION if require_hybrid else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    groups = HYBRID if require_hybrid else f"{HYBRID}:{_CLASSICAL}" if hybrid else _CLASSICAL
    # pyOpenSSL has no public way to say which groups may be used; this is SSL_CTX_set1_groups_list.
    openssl.SSL_CTX_set1_curves_list(context._context, groups.encode())
    try:
        context.use_certificate_chain_file(cert_file)
        context.use_privatekey_file(key_file)
        context.check_privatekey()
    except SSL.Error as error:
        raise QedgeError(
            "devices.bad_certificate",
            f"{cert_file} and {key_file} cannot be used for TLS: {_words(error)}.",
            fix="Give PEM files that belong together and that the daemon may read.",
        ) from error
    return context


class TlsSocket:
    """TLS on a socket that does not block, with the calls and errors of a socket."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self.group = ""

    def shake_hands(self) -> str:
        """Go on with the handshake; `done`, `read` or `write` says what is next. Raises `OSError`; takes milliseconds.

        May run in a thread, as long as nothing else touches the connection.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return "read"
        except SSL.WantWriteError:
            return "write"
        except SSL.Error as error:
            raise ConnectionAbortedError(_words(error)) from None
        self.group = self._connection.get_group_name() or "classical"
        return "done"

    def receive(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end; raises `BlockingIOError` or another `OSError`."""
        try:
            return bytes(self._connection.recv(size))
        except (SSL.WantReadError, SSL.WantWriteError):
            raise BlockingIOError from None
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error as error:
            raise ConnectionAbortedError(_words(error)) from None

    def transmit(self, data: bytes) -> int:
        """Send and return how much was taken; raises `BlockingIOError` or another `OSError`."""
        try:
            return int(self._connection.send(data))
        except (SSL.WantReadError, SSL.WantWriteError):
            raise BlockingIOError from None
        except SSL.Error as error:
            raise ConnectionAbortedError(_words(error)) from None

    def pending(self) -> int:
        """Return how many bytes are decrypted and not yet received."""
        return int(self._connection.pending())


def _words(error: SSL.Error) -> str:
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(reasons) or type(error).__name__
