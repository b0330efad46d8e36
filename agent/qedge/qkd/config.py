"""Settings of one QKD link."""

from __future__ import annotations

from typing import Annotated

import msgspec

FRAME_BITS = 131_072
"""Blocks are whole numbers of frames of the error correction."""


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.links.NAME]`: a fibre. Either `transceiver` and `peer`: its other end is at another node, which gives the
    link the same name, and key is distilled all the time; or `alice` and `bob`: both ends are on this box."""

    alice: Annotated[
        str, msgspec.Meta(description="Driver instance of the end that sends, both ends here.", max_length=36)
    ] = ""
    bob: Annotated[
        str, msgspec.Meta(description="Driver instance of the end that detects, both ends here.", max_length=36)
    ] = ""
    transceiver: Annotated[str, msgspec.Meta(description="Driver instance of the end at this node.", max_length=36)] = (
        ""
    )
    peer: Annotated[str, msgspec.Meta(description="Name of the node that has the other end.", max_length=36)] = ""
    distil: Annotated[
        bool, msgspec.Meta(description="Distil key also where both ends are here; nobody else measures then.")
    ] = False
    block_bits: Annotated[
        int,
        msgspec.Meta(
            description="Sifted bits of a block, a multiple of 131072; Alice's holds. Longer ones yield more.",
            ge=FRAME_BITS,
            le=1 << 26,
            multiple_of=FRAME_BITS,
        ),
    ] = 1 << 20
    epsilon: Annotated[
        float,
        msgspec.Meta(
            description="Chance that one block is not what it claims to be; both ends give the same.",
            ge=1e-18,
            le=1e-3,
        ),
    ] = 1e-10
    clean_blocks: Annotated[
        int, msgspec.Meta(description="Undisturbed blocks after an alarm before key is handed out again.", ge=1, le=100)
    ] = 2
    max_qber: Annotated[
        float,
        msgspec.Meta(description="Error rate above which an eavesdropper is suspected.", ge=0.001, le=0.25),
    ] = 0.11
    gain_tolerance: Annotated[
        float,
        msgspec.Meta(
            description="How far detections per pulse may be off those expected, as a share of these, before an alarm.",
            ge=0.02,
            le=10,
        ),
    ] = 0.3
    expected_loss_db: Annotated[
        float,
        msgspec.Meta(
            description="Loss from the source to a detection, fibre, receiver and detectors in all, which says how "
            "many detections are expected; -1: the detecting end learns that from its first blocks.",
            ge=-1,
            le=100,
        ),
    ] = -1.0
    commissioning: Annotated[
        int,
        msgspec.Meta(
            description="Raise it after work on fibre, source or detectors: the link then learns anew what to expect.",
            ge=0,
            le=1 << 31,
        ),
    ] = 0
    block_timeout_s: Annotated[
        float, msgspec.Meta(description="Time that the detecting end waits for one block.", ge=0.1, le=60)
    ] = 2.0
    measure_deadline_s: Annotated[
        float, msgspec.Meta(description="Time after which a measurement ends with what it has.", ge=0.5, le=600)
    ] = 20.0

    @property
    def distils(self) -> bool:
        """Whether key is distilled, and the transceivers' workers are link workers."""
        return bool(self.peer) or self.distil

    @property
    def transceivers(self) -> tuple[str, ...]:
        """Driver instances of the link that are here."""
        return tuple(name for name in (self.alice, self.bob, self.transceiver) if name)

    @property
    def epsilons(self) -> tuple[float, float, float]:
        """Secrecy, correctness and authentication of a block; secrecy costs most, so it gets nearly all."""
        return 0.98 * self.epsilon, 0.01 * self.epsilon, 0.01 * self.epsilon

    @property
    def fault(self) -> str:
        """Say what does not fit together; empty where everything does."""
        here, away = self.alice or self.bob, self.transceiver or self.peer
        if here and away:
            return "has both ends here and one at a peer"
        if (self.alice and self.bob) or (self.transceiver and self.peer):
            return ""
        return "has no two ends"
