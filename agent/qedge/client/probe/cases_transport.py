"""Cases 1 to 12: TLS and identity."""

from __future__ import annotations

import json
import ssl
import warnings

from qedge.base.errors import QedgeError
from qedge.client.kme import path_of
from qedge.client.kme_link import KmeLink, trusting
from qedge.client.probe.case import case
from qedge.client.probe.stand import Stand, good, message_of, refused
from qedge.client.probe.verdict import FailedError, SkippedError, WarnedError, expect

_UNAUTHORISED = (401,)


async def _status(link: KmeLink, slave: str) -> int:
    """Return the HTTP status of a status call over a connection of its own, 0 where TLS ended it."""
    try:
        return (await link.request("GET", path_of(slave, "status"))).status
    except QedgeError as error:
        if error.code in ("client.no_daemon", "client.data"):
            return 0
        raise
    finally:
        await link.close()


async def _must_be_refused(stand: Stand, kind: str) -> None:
    if kind not in stand.bad:
        raise SkippedError(f"needs a certificate of the kind {kind}")
    link = KmeLink(stand.place, stand.bad[kind].context())
    status = await _status(link, stand.slave)
    expect(status in (0, *_UNAUTHORISED), f"refused connection or 401 expected, got {status}")


@case(1, "TLS 1.1 is not spoken")
async def old_tls(stand: Stand) -> None:
    """Offer TLS 1.1 at most."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = stand.people[stand.master].credentials.context(low=ssl.TLSVersion.TLSv1, high=ssl.TLSVersion.TLSv1_1)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
    except ssl.SSLError:
        raise SkippedError("this platform cannot offer TLS 1.1") from None
    link = KmeLink(stand.place, context)
    expect(await _status(link, stand.slave) == 0, "TLS 1.1 was accepted")


async def _with(stand: Stand, version: ssl.TLSVersion, name: str) -> None:
    link = stand.fresh(low=version, high=version)
    async with link:
        good(await link.request("GET", path_of(stand.slave, "status")))
        expect(not link.tls_version or link.tls_version == name, f"the connection is {link.tls_version}")


@case(2, "TLS 1.2 works")
async def tls_1_2(stand: Stand) -> None:
    """Offer TLS 1.2 only."""
    await _with(stand, ssl.TLSVersion.TLSv1_2, "TLSv1.2")


@case(3, "TLS 1.3 works")
async def tls_1_3(stand: Stand) -> None:
    """Offer TLS 1.3 only."""
    try:
        await _with(stand, ssl.TLSVersion.TLSv1_3, "TLSv1.3")
    except QedgeError as error:
        raise WarnedError(f"TLS 1.3 is not offered: {error.message}") from error


@case(4, "No client certificate: no answer")
async def no_certificate(stand: Stand) -> None:
    """Connect without a certificate; with TLS 1.3 the error shows at the first read."""
    link = KmeLink(stand.place, trusting(stand.people[stand.master].credentials.authorities))
    status = await _status(link, stand.slave)
    expect(status in (0, *_UNAUTHORISED), f"a connection without a certificate was answered with {status}")


@case(5, "A certificate of an unknown authority is refused")
async def unknown_authority(stand: Stand) -> None:
    """Connect with a certificate that anybody can make."""
    await _must_be_refused(stand, "unknown-authority")


@case(6, "An expired certificate is refused")
async def expired(stand: Stand) -> None:
    """Connect with a certificate that has ended."""
    await _must_be_refused(stand, "expired")


@case(7, "A revoked certificate is refused")
async def revoked(stand: Stand) -> None:
    """Connect with a certificate that was revoked."""
    await _must_be_refused(stand, "revoked")


@case(8, "A certificate of no registered SAE is refused")
async def unregistered(stand: Stand) -> None:
    """Connect as somebody whom the authority knows and the key manager does not."""
    await _must_be_refused(stand, "unregistered")


@case(9, "A certificate that names two SAEs is refused")
async def two_names(stand: Stand) -> None:
    """Connect with two URIs."""
    await _must_be_refused(stand, "two-names")


@case(10, "Plain HTTP gets no key data")
async def plain_http(stand: Stand) -> None:
    """Speak HTTP without TLS to the port."""
    status = await _status(KmeLink(stand.place, None, timeout_s=3.0), stand.slave)
    expect(status == 0 or status >= 300, f"plain HTTP was answered with {status}")


@case(11, "An SAE id in a header or body is ignored")
async def claimed_identity(stand: Stand) -> None:
    """Claim to be somebody else."""
    headers = [("X-SAE-ID", stand.slave), ("X-Forwarded-Client-Cert", f"URI={stand.slave}"), ("From", stand.slave)]
    reply = await stand.link().request("GET", path_of(stand.slave, "status"), headers=headers)
    expect(good(reply).get("master_SAE_ID") == stand.master, "a header changed who asks")


@case(12, "The certificate says which KME it is")
async def kme_identity(stand: Stand) -> None:
    """See that a client which expects another key manager would stop."""
    link = stand.fresh()
    async with link:
        source = good(await link.request("GET", path_of(stand.slave, "status"))).get("source_KME_ID")
        expect(not stand.kme_id or source == stand.kme_id, f"source_KME_ID is {source!r}")

    def refuse(_uris: object) -> None:
        raise QedgeError("auth.untrusted", "This is another key manager.")

    wary = KmeLink(stand.place, stand.people[stand.master].credentials.context(), check_server=refuse)
    try:
        await wary.request("GET", path_of(stand.slave, "status"))
    except QedgeError as error:
        expect(error.code == "auth.untrusted", "the client did not stop")
    else:
        raise FailedError("the client did not stop")
    finally:
        await wary.close()
    async with stand.fresh() as again:
        await again.open()
        if not again.server_uris:
            raise WarnedError("the certificate has no URI, so the KME id can only be taken on trust")


@case(79, "Keep-alive and new connections both work")
async def connections(stand: Stand) -> None:
    """Ask three times over one connection and three times over new ones."""
    async with stand.fresh() as link:
        for _ in range(3):
            good(await link.request("GET", path_of(stand.slave, "status")))
    for _ in range(3):
        async with stand.fresh() as link:
            reply = await link.request("GET", path_of(stand.slave, "status"), headers=[("Connection", "close")])
            good(reply)


@case(80, "A body over the limit is an error, and the server stays up")
async def large_body(stand: Stand) -> None:
    """Send 16 MiB."""
    async with stand.fresh() as link:
        body = json.dumps({"number": 1, "probe_padding": "x" * (16 << 20)}).encode()
        try:
            reply = await link.request("POST", path_of(stand.slave, "enc_keys"), body)
            expect(reply.status in (400, 413, 503), f"400 or 413 expected, got {reply.status}: {message_of(reply)}")
        except QedgeError as error:
            expect(error.code != "client.timeout", "the server did not answer")
    async with stand.fresh() as link:
        good(await link.request("GET", path_of(stand.slave, "status")))


@case(81, "Other verbs are 405 with Allow")
async def verbs(stand: Stand) -> None:
    """PUT, DELETE and PATCH on everything, POST on status."""
    asked = [(verb, call) for verb in ("PUT", "DELETE", "PATCH") for call in ("status", "enc_keys", "dec_keys")]
    for verb, call in [*asked, ("POST", "status")]:
        async with stand.fresh() as link:
            reply = await link.request(verb, path_of(stand.slave, call), b"{}")
        refused(reply, 405)
        expect("GET" in reply.headers.get("allow", ""), f"{verb} {call}: the header Allow is missing")


@case(82, "A slow client does not hold up others")
async def slow_client(stand: Stand) -> None:
    """Send half a request, and meanwhile ask as usual."""
    async with stand.fresh() as slow:
        head = (
            f"POST {stand.place.prefix}{path_of(stand.slave, 'enc_keys')} HTTP/1.1\r\nHost: {stand.place.authority}\r\n"
        )
        await slow.send(head.encode() + b"Content-Length: 100\r\n\r\n{")
        for _ in range(5):
            good(await stand.link().request("GET", path_of(stand.slave, "status")))
