"""Secret choices of one end: the node's pool, expanded by a standard generator since a link needs 100 MB a second.

CTR_DRBG of NIST SP 800-90A, revision 1, section 10.2.1, with AES-256 and without a derivation function: seeds come from
the node's pool, which gives full entropy. Each request makes a new key, so that what is held in memory tells nothing of
earlier choices. A real transceiver draws each choice from its own quantum source; here the choices are as good as
AES-256 and the pool, computationally so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

RandomBytes = Callable[[int], bytes]

_KEY_BYTES: Final = 32
_SEED_BYTES: Final = 48
REQUEST_BYTES: Final = 1 << 16
"""The longest request that the standard allows for AES: 2¹⁹ bits."""
RESEED_REQUESTS: Final = 256
"""A new seed comes from the pool after so many requests, 16 MiB; the standard asks for one after 2⁴⁸."""
_BLOCK_BYTES: Final = 16
_ZEROS: Final = memoryview(bytes(REQUEST_BYTES + _SEED_BYTES))


class CtrDrbg:
    """AES-256 CTR_DRBG, seeded by `pool` when it is first asked and regularly from then on. For one thread."""

    def __init__(self, pool: RandomBytes) -> None:
        self._pool = pool
        self._key = bytes(_KEY_BYTES)
        self._counter = bytes(_BLOCK_BYTES)
        self._requests_left = 0
        self._buffer = memoryview(bytearray(len(_ZEROS) + _BLOCK_BYTES))

    def fill(self, out: NDArray[np.int32]) -> None:
        """Fill a contiguous array with secret random words; raises what the pool raises."""
        view = out.data.cast("B")
        for begin in range(0, len(view), REQUEST_BYTES):
            part = view[begin : begin + REQUEST_BYTES]
            part[:] = self.generate(len(part))

    def generate(self, number: int) -> memoryview:
        """Return `number` bytes, at most `REQUEST_BYTES`; they are overwritten by the next call."""
        if self._requests_left <= 0:
            self._reseed()
        self._requests_left -= 1
        blocks = -number % _BLOCK_BYTES + number
        stream = self._stream(blocks + _SEED_BYTES)
        self._key = bytes(stream[blocks : blocks + _KEY_BYTES])
        self._counter = bytes(stream[blocks + _KEY_BYTES :])
        return stream[:number]

    def _reseed(self) -> None:
        """Mix a new seed into the state; the first one into the state of zeros that the standard begins with."""
        seed = self._pool(_SEED_BYTES)
        mixed = bytes(a ^ b for a, b in zip(self._stream(_SEED_BYTES), seed, strict=True))
        self._key, self._counter = mixed[:_KEY_BYTES], mixed[_KEY_BYTES:]
        self._requests_left = RESEED_REQUESTS

    def _stream(self, number: int) -> memoryview:
        start = (int.from_bytes(self._counter, "big") + 1) % (1 << 128)
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(start.to_bytes(_BLOCK_BYTES, "big"))).encryptor()
        encryptor.update_into(_ZEROS[:number], self._buffer)
        return self._buffer[:number]
