"""Key delivery of the node that tests use: the real rules over the fake store, without certificates."""

from __future__ import annotations

from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes
from qedge.qkd.delivery.config import DeliveryConfig, SaeConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.fake import FakeLinks, FakeVault
from qedge.qkd.delivery.office import KeyOffice
from qedge.qkd.delivery.registry import Registry


def fake_keys(clock: Clock, random_bytes: RandomBytes, kept: list[str]) -> KeyOffice:
    """Make it for box-1 with the applications `alpha` here and `beta` at box-2; `kept` gets what would be stored."""
    saes = {"alpha": SaeConfig(permit=("beta",)), "beta": SaeConfig(node="box-2")}
    vault = FakeVault("box-1", FakeLinks(clock, random_bytes, bits=1 << 20))
    desk = KeyDesk(DeliveryConfig(), Registry("box-1", saes), vault, clock=clock)

    async def load() -> str:
        return kept[-1] if kept else ""

    async def keep(text: str) -> None:
        kept.append(text)

    return KeyOffice(
        desk,
        load=load,
        keep=keep,
        folder=None,
        names=(),
        exchange="classical",
        clock=clock,
        random_bytes=random_bytes,
    )
