"""The other nodes of the fake one: as many as wanted, most of them well, the same each time."""

from __future__ import annotations

from typing import Final

from qedge.wire.mesh import Capability, PeerState, PeerView, SessionView

QPUS: Final = (
    Capability("qpu", "qpu", "sim_qpu", "0.1.0", True, {"qubits": 64, "method": "state vector"}),
    Capability("ion", "qpu", "sim_qpu", "0.1.0", True, {"qubits": 12}),
)
_QRNG: Final = Capability("rng", "qrng", "sim_qrng", "0.1.0", True)
_QKD: Final = Capability("fibre", "qkd", "sim_qkd", "0.1.0", True)
_DAY_NS: Final = 86_400 * 1_000_000_000
_SUITE: Final = (1, "X25519MLKEM768")


def fake_peers(count: int, utc_ns: int) -> tuple[PeerView, ...]:
    """Make `box-2` and so on; of many, every 11th is dead, one is suspect and one has taken leave."""
    return tuple(_peer(number, utc_ns) for number in range(2, count + 2))


def _peer(number: int, utc_ns: int) -> PeerView:
    state = PeerState.DEAD if number % 11 == 0 else PeerState.ALIVE
    state = {17: PeerState.SUSPECT, 29: PeerState.LEFT}.get(number, state)
    alive = state is PeerState.ALIVE
    far = number % 3 == 0
    session = SessionView("open", *_SUITE, "mqtt" if far else "direct", number % 4 == 2, utc_ns - number * 10**11)
    return PeerView(
        f"box-{number}",
        state,
        version="0.1.0",
        epoch=number % 5 + 1,
        key_id=f"{number:032x}",
        since_utc_ns=utc_ns - number * 37 * 10**9,
        heard_s=0.1 * (number % 9) if alive else 12.0 + number,
        pulse_s=1.0,
        certificate_until_utc_ns=utc_ns + (number * 7 % 90) * _DAY_NS,
        capabilities=() if state is PeerState.LEFT else (*QPUS[: number % 3], _QRNG, _QKD)[: 4 - number % 2],
        session=session if alive else SessionView(),
    )
