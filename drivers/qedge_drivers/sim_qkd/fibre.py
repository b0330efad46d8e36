"""The fibre: a stream socket on which Bob asks for a stretch of light and Alice's end sends what leaves the fibre.

Only what a fibre carries crosses: the clock, the slots that hold light, their photon numbers and polarisations, and
whether bright light blinds who looks. Bob's question says what his receiver loses, so that lost photons need not
be sent. Bytes from the other side are checked before they are believed.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from qedge_driver_api import RetriableError

MAX_BLOCK_SLOTS: Final = 1 << 26
MAX_BLOCK_WORDS: Final = 1 << 21
_MAGIC: Final = b"QFIB"
_VERSION: Final = 2
_REQUEST: Final = struct.Struct("<4sHxxQdd")
_REPLY: Final = struct.Struct("<4sHHQQdQ")
_BLINDS: Final = 1
_WORD_BYTES: Final = 4
_MAX_PEERS: Final = 4
_MIN_CLOCK_HZ: Final = 1e3
_LONGEST_BLOCK_S: Final = 600.0
_SEND_TIMEOUT_S: Final = 5.0
_UNIX_PATH_BYTES: Final = 100


@dataclass(frozen=True)
class Question:
    """How much light Bob wants, what share of its photons he sees, and in what share of the slots he looks."""

    num_slots: int
    efficiency: float = 1.0
    duty: float = 1.0


@dataclass(frozen=True)
class Light:
    """One block of light: `words` are little-endian i32 (see `kernels`); `blinds`: bright light comes along."""

    first_slot: int
    num_slots: int
    clock_hz: float
    words: memoryview
    blinds: bool = False


def default_fibre(state_dir: str, link: str) -> str:
    """Name the socket that both ends on one box find: beside the state folders of the driver instances."""
    return f"unix:{os.path.join(os.path.dirname(os.path.abspath(state_dir)), f'fibre-{link}.sock')}"


@contextlib.contextmanager
def _unix_address(path: str) -> Iterator[str]:
    """Give a name of the socket that fits the kernel's 107 bytes, by way of its open folder where need be."""
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _tcp_address(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def connect(fibre: str, timeout_s: float) -> socket.socket:
    """Connect Bob's end; raises `RetriableError` where nobody listens."""
    kind, _, place = fibre.partition(":")
    try:
        if kind == "tcp":
            return socket.create_connection(_tcp_address(place), timeout_s)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.settimeout(timeout_s)
            with _unix_address(place) as address:
                end.connect(address)
        except OSError:
            end.close()
            raise
    except OSError as error:
        raise RetriableError(f"Nobody sends light into the fibre: {error.strerror or error}.") from error
    return end


def _listen(fibre: str) -> socket.socket:
    kind, _, place = fibre.partition(":")
    try:
        if kind == "tcp":
            host, port = _tcp_address(place)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)  # left by an end that was killed; the end opened last has the fibre
            with _unix_address(place) as address:
                end.bind(address)
            os.chmod(place, 0o600)
            end.listen()
        except OSError:
            end.close()
            raise
    except OSError as error:
        raise RetriableError(f"The fibre cannot be laid: {error.strerror or error}.") from error
    return end


class FibreEnd:
    """Alice's end: serves light from a thread of its own, only when it is asked for."""

    def __init__(self, fibre: str, shine: Callable[[Question], Light]) -> None:
        """`shine` makes the next block, of at most as many slots as asked for."""
        self._shine = shine
        self._fibre = fibre
        self._listener = _listen(fibre)
        self._inode = self._find_inode()
        self._listener.setblocking(False)
        self._stop_end, self._stop = socket.socketpair()
        self._requests: dict[socket.socket, bytes] = {}
        self.fault = ""
        self._thread = threading.Thread(target=self._serve, name="fibre", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether light is sent to who asks."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Go dark."""
        with contextlib.suppress(OSError):
            self._stop.send(b"\0")
        self._thread.join(_SEND_TIMEOUT_S + 1.0)
        with contextlib.suppress(OSError):
            if self._inode and self._find_inode() == self._inode:
                os.unlink(self._fibre.partition(":")[2])
        for end in (self._stop, self._stop_end):
            end.close()

    def _find_inode(self) -> int:
        kind, _, place = self._fibre.partition(":")
        try:
            return os.stat(place).st_ino if kind == "unix" else 0
        except OSError:
            return 0

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop_end, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in selector.select():
                        end = key.fileobj
                        if end is self._stop_end:
                            return
                        if end is self._listener:
                            self._accept(selector)
                        elif isinstance(end, socket.socket) and end in self._requests and not self._answer(end):
                            self._drop(selector, end)
            finally:
                for end in list(self._requests):
                    self._drop(selector, end)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:
            return
        if len(self._requests) >= _MAX_PEERS:
            self._drop(selector, next(iter(self._requests)))
        end.settimeout(_SEND_TIMEOUT_S)
        self._requests[end] = b""
        selector.register(end, selectors.EVENT_READ)

    def _drop(self, selector: selectors.BaseSelector, end: socket.socket) -> None:
        selector.unregister(end)
        del self._requests[end]
        end.close()

    def _answer(self, end: socket.socket) -> bool:
        """Take what came; once it is a request, send light. False: the peer is gone or speaks nonsense."""
        try:
            got = end.recv(_REQUEST.size - len(self._requests[end]))
            self._requests[end] += got
            if not got or self._requests[end][:4] != _MAGIC[: len(self._requests[end])]:
                return False
            if len(self._requests[end]) < _REQUEST.size:
                return True
            magic, version, *asked = _REQUEST.unpack(self._requests[end])
            question = Question(*asked)
            self._requests[end] = b""
            shares = 0.0 <= question.efficiency <= 1.0 and 0.0 <= question.duty <= 1.0
            if magic != _MAGIC or version != _VERSION or not shares or not 1 <= question.num_slots <= MAX_BLOCK_SLOTS:
                return False
            if not is_open(end):
                return False  # who asked has left: light for nobody would keep those waiting who are still there
            end.settimeout(_SEND_TIMEOUT_S)
            light = self._shine(question)
            self.fault = ""
            number = light.words.nbytes // _WORD_BYTES
            flags = _BLINDS * light.blinds
            end.sendall(_REPLY.pack(_MAGIC, _VERSION, flags, light.first_slot, light.num_slots, light.clock_hz, number))
            end.sendall(light.words)
        except OSError:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a block failed with must not end the thread; health says it
            self.fault = f"{type(error).__name__}: {error}"
            return False
        return True


def ask(end: socket.socket, question: Question, timeout_s: float) -> Light:
    """Ask for the next block; raises `TimeoutError`, `OSError` or `RetriableError` (nonsense came)."""
    until = time.monotonic() + timeout_s
    end.settimeout(timeout_s)
    end.sendall(_REQUEST.pack(_MAGIC, _VERSION, question.num_slots, question.efficiency, question.duty))
    magic, version, flags, first_slot, slots, clock_hz, number = _REPLY.unpack(_receive(end, _REPLY.size, until))
    sane = magic == _MAGIC and version == _VERSION and flags in (0, _BLINDS) and 1 <= slots <= question.num_slots
    lasts = clock_hz >= _MIN_CLOCK_HZ and slots / clock_hz <= _LONGEST_BLOCK_S  # who measures waits for so long
    if not sane or first_slot > 2**63 - 1 - slots or number > MAX_BLOCK_WORDS or not lasts or clock_hz == math.inf:
        raise RetriableError("What comes out of the fibre is no light of a simulated transceiver.")
    return Light(first_slot, slots, clock_hz, _receive(end, number * _WORD_BYTES, until), flags == _BLINDS)


def _receive(end: socket.socket, number: int, until: float) -> memoryview:
    data = np.empty(number, np.uint8).data  # not cleared first, as a bytearray is
    got = 0
    while got < number:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        end.settimeout(left_s)
        part = end.recv_into(data[got:])
        if not part:
            raise ConnectionResetError("the other end of the fibre is gone")
        got += part
    return data


def is_open(end: socket.socket) -> bool:
    """Say whether the other end is still there, without waiting."""
    end.setblocking(False)
    try:
        return end.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
