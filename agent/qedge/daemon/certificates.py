"""Watches the node's certificate and its list of revoked keys while the daemon runs."""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.base.service import Ready
from qedge.daemon.peers import Tools
from qedge.mesh.certificate_watch import CertificateWatch

_LOOK_S: Final = 5.0


class CertificateService:
    """Looks every few seconds."""

    name = "certificates"

    def __init__(self, watch: CertificateWatch) -> None:
        self.watch = watch

    async def run(self, ready: Ready) -> None:
        """Look until cancelled."""
        ready()
        while True:
            self.watch.look()
            await asyncio.sleep(_LOOK_S)


def make_certificates(tools: Tools) -> CertificateService:
    """Make the watch, and tell the node's trust how old a list of revoked keys may be."""
    config, identity = tools.config.crypto, tools.identity
    if not identity.standalone:  # a fleet of one has no authority that could sign a list
        identity.trust.max_age_ns = round(config.revocations_max_age_s * 1e9)
        identity.trust.when_old = config.revocations_when_old
    watch = CertificateWatch(
        identity.member,
        identity.trust,
        standalone=identity.standalone,
        clock=tools.clock,
        metrics=tools.metrics,
    )
    identity.on_renewed.append(lambda: watch.renewed(identity.member))
    return CertificateService(watch)
