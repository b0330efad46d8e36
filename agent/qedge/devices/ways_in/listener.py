"""The listener: devices connect to the node itself by MQTT 3.1.1 or 5. The quickest way, and one that can be cut."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.file_stamps import FileStamps, file_stamps
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.devices.enforcement import Enforcement
from qedge.devices.ports import Audience, Doorman, Keeper
from qedge.devices.ways_in.addresses import Addresses, AddressLimits, address_of
from qedge.devices.ways_in.config import ListenerConfig
from qedge.devices.ways_in.dialogue import Dialogue
from qedge.devices.ways_in.door import Door, room_for
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.handshakes import Handshakes, Shaking
from qedge.devices.ways_in.lanes import Lanes
from qedge.devices.ways_in.line import Line
from qedge.devices.ways_in.model import Code, Connect, ListenerView
from qedge.devices.ways_in.pace import Pace
from qedge.devices.ways_in.rates import Throttles
from qedge.devices.ways_in.reception import Guest, Rules
from qedge.devices.ways_in.tls import HYBRID, hybrid_available, server_context
from qedge.devices.ways_in.wheel import Wheel
from qedge.security.model import Subject
from qedge.security.tally import Tally
from qedge.wire.attached import DeviceLeaf, device_topic

_LOG: Final = get_logger("devices")
_TICK_S: Final = 0.25
_SWEEP_TICKS: Final = 240
_FLUSH_TICKS: Final = 4
_CHECKS_AT_ONCE: Final = 2


class Listener:
    """A service and a `Way`. At most one connection of a device: a new one takes over.

    `throttles` are shared with the other way, `pace` with `desk`, which takes handshakes. Whoever works long on the
    loop's thread may call `lanes.serve_urgent` in between, so that safety devices do not wait for it.
    """

    name = "device-listener"

    def __init__(
        self,
        config: ListenerConfig,
        *,
        fleet: str,
        node: str,
        enforcement: Enforcement,
        doorman: Doorman,
        desk: GreetingDesk,
        pace: Pace,
        throttles: Throttles,
        clock: Clock,
        metrics: Metrics,
        keeper: Keeper | None = None,
        audience: Audience | None = None,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._node = node
        self._enforcement = enforcement
        self._doorman = doorman
        self._desk = desk
        self._pace = pace
        self._throttles = throttles
        self._clock = clock
        self._metrics = metrics
        self._rules = Rules(
            fleet,
            node,
            enforcement,
            throttles,
            max_packet_bytes=config.max_message_bytes,
            max_keepalive_s=config.max_keepalive_s,
            queue_messages=config.queue_messages,
            keeper=keeper,
            audience=audience,
        )
        limits = AddressLimits(
            config.max_connections_per_address, config.address_connects_per_s, config.address_connects_burst
        )
        self._addresses = Addresses(limits)
        self._devices: dict[str, Line] = {}
        self._strangers: dict[Line | Shaking, None] = {}
        self._num_open = 0
        self._arrivals: asyncio.Queue[tuple[Line, Dialogue, Connect]] = asyncio.Queue()
        self._handshakes: Handshakes | None = None
        self._stamps: FileStamps = ()
        self._wheel: Wheel[Line | Shaking] = Wheel(250_000_000, clock.now_ns())
        self._door: Door | None = None
        self._max_connections = config.max_connections
        self._listening: tuple[str, ...] = ()
        self._groups: dict[str, int] = {}
        self._tls = "none"
        self.lanes = Lanes(clock)

    @property
    def address_tallies(self) -> dict[str, Tally]:
        """Counts of each address within the current window."""
        return self._addresses.tallies()

    def view(self) -> ListenerView:
        """Return what status shows."""
        return ListenerView(
            addresses=self._listening,
            tls=self._tls,
            connections=self._num_open,
            unauthenticated=len(self._strangers),
            max_connections=self._max_connections,
            paused=self._door.paused if self._door is not None else "",
            groups=dict(self._groups),
        )

    async def run(self, ready: Ready) -> None:
        """Listen until cancelled; raises `start.port_taken` or `devices.bad_certificate`."""
        config = self._config
        self._max_connections = room_for(config.max_connections)
        self.lanes.start()
        try:
            self._open()
            ready()
            async with asyncio.TaskGroup() as group:
                for _ in range(_CHECKS_AT_ONCE):
                    group.create_task(self._check_arrivals())
                await self._tick()
        finally:
            self._stop()

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Send to a device that is connected and listens to the topic."""
        line = self._devices.get(device_id)
        return line is not None and self._dialogue(line).send(topic, payload)

    def cut(self, device_id: str) -> bool:
        """Close the connection of a device now; nothing that it still sends is read."""
        line = self._devices.get(device_id)
        if line is None:
            return False
        line.cut("cut")
        return True

    def limit(self, device_id: str, messages_per_s: float) -> None:
        """Take so many packets a second from a device, by whatever way; 0 lifts it."""
        now_ns = self._clock.now_ns()
        self._throttles.throttle(device_id, messages_per_s, now_ns)
        line = self._devices.get(device_id)
        if line is not None:
            self._dialogue(line).pace(self._throttles.rate(device_id), now_ns)

    def block(self, address: str, seconds: float) -> None:
        """Take no connection from an address for so long; 0 lifts it. Connections that are open stay."""
        now_ns = self._clock.now_ns()
        self._addresses.block(address_of(address), now_ns + round(seconds * 1e9), now_ns)

    def recheck(self, device_id: str) -> None:
        """Ask policy once more whether a device may be connected, and cut it where it may not."""
        line = self._devices.get(device_id)
        if line is not None:
            now_ns, utc_ns = self.lanes.now()
            if not self._enforcement.admit(self._dialogue(line).subject, now_ns, utc_ns):
                line.cut("denied")

    def arrive(self, guest: Guest, connect: Connect) -> None:
        """Find out who sent a CONNECT, in its turn: few at a time, so that a storm leaves the loop to others."""
        if isinstance(guest, Dialogue) and isinstance(guest.outlet, Line):
            self._arrivals.put_nowait((guest.outlet, guest, connect))

    def hello(self, device_id: str, message: bytes) -> bool:
        """Take a step of a handshake."""
        return self._desk.offer(device_id, message, self._welcome)

    def offended(self, guest: Guest) -> None:
        """Note that an address sends what is no MQTT."""
        if isinstance(guest, Dialogue) and isinstance(guest.outlet, Line):
            self._addresses.failed(guest.outlet.address, self._clock.now_ns())

    def _welcome(self, device_id: str, answer: bytes) -> None:
        self.send(device_id, device_topic(self._fleet, self._node, device_id, DeviceLeaf.WELCOME), answer)

    def _has_room(self) -> bool:
        return self._num_open < self._max_connections

    def _accept(self, sock: socket.socket, host: str, tls: bool) -> None:
        address, now_ns = address_of(host), self._clock.now_ns()
        refusal = self._addresses.arrive(address, now_ns)
        if refusal:
            self._metrics.add("qedge_device_connects_total", (refusal,))
            sock.close()
            return
        self._num_open += 1
        limit_ns = round(self._config.connect_timeout_s * 1e9)
        stranger: Line | Shaking
        if tls and self._handshakes is not None:
            stranger = self._handshakes.begin(sock, address)
        else:
            stranger = self._attach(sock, address, None)
        self._strangers[stranger] = None
        self._wheel.add(stranger, now_ns + limit_ns)
        if len(self._strangers) > self._config.max_unauthenticated:
            self._turn_out(next(iter(self._strangers)), "crowded")

    def _attach(self, sock: socket.socket, address: str, shaken: Shaking | None) -> Line:
        dialogue = Dialogue(self._rules, self, self._clock.now_ns())
        tls = shaken.tls if shaken is not None else None
        line = Line(
            sock,
            self.lanes,
            dialogue,
            self._ended,
            address=address,
            max_bytes=self._config.queue_bytes,
            receive=tls.receive if tls is not None else None,
            transmit=tls.transmit if tls is not None else None,
            pending=tls.pending if tls is not None else None,
            group=tls.group if tls is not None else "",
        )
        dialogue.outlet = line
        return line

    def _shaken(self, shaken: Shaking) -> None:
        self._strangers.pop(shaken, None)
        self._wheel.remove(shaken)
        group = shaken.tls.group
        self._metrics.add("qedge_device_tls_total", (HYBRID if group == HYBRID else "classical",))
        self._groups[group] = self._groups.get(group, 0) + 1
        line = self._attach(shaken.sock, shaken.address, shaken)
        self._strangers[line] = None
        self._wheel.add(line, self._clock.now_ns() + round(self._config.connect_timeout_s * 1e9))
        line.serve(1, *self.lanes.now())  # what came with the end of the handshake is announced by nobody

    def _not_shaken(self, shaken: Shaking) -> None:
        self._wheel.remove(shaken)
        self._leave(shaken, shaken.address)
        self._addresses.failed(shaken.address, self._clock.now_ns())
        self._metrics.add("qedge_device_closed_total", ("no_handshake",))

    def _turn_out(self, stranger: Line | Shaking, reason: str) -> None:
        if isinstance(stranger, Line):
            stranger.close(reason)
            return
        stranger.abandon()
        self._wheel.remove(stranger)
        self._leave(stranger, stranger.address)
        self._metrics.add("qedge_device_closed_total", (reason,))

    def _leave(self, stranger: Line | Shaking, address: str) -> None:
        self._strangers.pop(stranger, None)
        self._num_open -= 1
        self._addresses.leave(address, self._clock.now_ns())

    def _open(self) -> None:
        config = self._config
        if config.listen_tls:
            self._stamps = file_stamps((config.cert_file, config.key_file))
            context = server_context(config.cert_file, config.key_file, require_hybrid=config.require_hybrid)
            self._tls = HYBRID.lower() if hybrid_available() else "classical"
            self._handshakes = Handshakes(context, self.lanes, self._shaken, self._not_shaken)
        self._door = Door(self._accept, self._has_room, per_s=config.connects_per_s, pace=self._pace, clock=self._clock)
        self._listening = self._door.open(config.listen, config.listen_tls)
        if self._listening:
            _LOG.info("devices.listening", addresses=", ".join(self._listening), tls=self._tls)

    async def _check_arrivals(self) -> None:
        while True:
            line, dialogue, connect = await self._arrivals.get()
            began_ns = await self._pace.turn()
            if not line.closed:
                await self._check(line, dialogue, connect)
                self._pace.spent(began_ns)
            del line, dialogue, connect  # or they would be kept until the next comes
            await asyncio.sleep(0)

    async def _check(self, line: Line, dialogue: Dialogue, connect: Connect) -> None:
        subject, outcome = await self._identify(connect)
        if line.closed:
            return
        now_ns, utc_ns = self.lanes.now()
        if subject is None and outcome == "unproven":
            # It says nothing of the device whose name was used: whoever knows the name could have sent it.
            self._addresses.failed(line.address, now_ns)
        elif subject is not None and not self._enforcement.admit(subject, now_ns, utc_ns):
            subject, outcome = None, "denied"
        self._metrics.add("qedge_device_connects_total", (outcome,))
        if subject is None:
            dialogue.refuse(Code.SERVER_BUSY if outcome == "busy" else Code.NOT_AUTHORIZED, outcome)
            return
        self._addresses.succeeded(line.address)
        before = self._devices.get(subject.id)
        if before is not None:
            self._dialogue(before).end(Code.TAKEN_OVER, "taken_over")
        self._strangers.pop(line, None)
        self._devices[subject.id] = line
        self._enforcement.note_connect(subject.id, now_ns)
        if subject.safety:
            line.promote()
        dialogue.admit(subject, now_ns, utc_ns)
        if not line.closed:
            self._wheel.add(line, now_ns + dialogue.silence_ns)

    async def _identify(self, connect: Connect) -> tuple[Subject | None, str]:
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                subject = await self._doorman.check(connect.client_id, connect.username, connect.password)
        except TimeoutError:
            return None, "busy"
        except QedgeError:
            return None, "repeated"
        except Exception as error:  # noqa: BLE001 - a fault in one check must not end the listener
            _LOG.error("devices.failed", error=f"{type(error).__name__}: {error}")
            return None, "busy"
        return subject, "admitted" if subject is not None else "unproven"

    def _ended(self, line: Line, reason: str) -> None:
        self._leave(line, line.address)
        self._wheel.remove(line)
        if line.group:
            self._groups[line.group] -= 1
        dialogue = self._dialogue(line)
        if self._devices.get(dialogue.device_id) is line:
            del self._devices[dialogue.device_id]
        dialogue.lost(*self.lanes.now())
        self._metrics.add("qedge_device_closed_total", (reason,))

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            now_ns = self._clock.now_ns()
            for each in self._wheel.due(now_ns):
                self._look_at(each, now_ns)
            stalled_ns = now_ns - round(self._config.stall_timeout_s * 1e9)
            for line in [each for each in self.lanes.stalled if each.stalled_ns < stalled_ns]:
                line.cut("reads_nothing")
            if ticks % _FLUSH_TICKS == 0:
                self._enforcement.flush()
                self._metrics.set("qedge_device_connections", self._num_open)
                self._renew_certificate()
            if ticks % _SWEEP_TICKS == 0:
                self._addresses.sweep(now_ns)

    def _renew_certificate(self) -> None:
        """Take a certificate whose files were changed for new connections; one that is no good is told once."""
        config = self._config
        stamps = file_stamps((config.cert_file, config.key_file))
        if self._handshakes is None or stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            context = server_context(config.cert_file, config.key_file, require_hybrid=config.require_hybrid)
        except QedgeError as error:
            _LOG.error("devices.tls_refused", error=str(error))
            return
        self._handshakes.use(context)
        _LOG.info("devices.tls_renewed")

    def _look_at(self, each: Line | Shaking, now_ns: int) -> None:
        """Close what has been silent, or has not read, for too long; otherwise say when to look again."""
        if each in self._strangers:
            self._turn_out(each, "no_connect" if isinstance(each, Line) else "no_handshake")
            return
        if not isinstance(each, Line) or each.closed:
            return
        dialogue = self._dialogue(each)
        due_ns = dialogue.heard_ns + dialogue.silence_ns
        if now_ns >= due_ns:
            dialogue.end(Code.KEEP_ALIVE, "silent")
            return
        self._wheel.add(each, due_ns)

    def _stop(self) -> None:
        if self._door is not None:
            self._door.close()
        for stranger in list(self._strangers):
            self._turn_out(stranger, "stopping")
        for line in list(self._devices.values()):
            self._dialogue(line).end(Code.SHUTTING_DOWN, "stopping")
        if self._handshakes is not None:
            self._handshakes.close()
        self.lanes.close()
        self._enforcement.flush()

    @staticmethod
    def _dialogue(line: Line) -> Dialogue:
        if not isinstance(line.taker, Dialogue):
            raise TypeError("a line of the listener has a dialogue")
        return line.taker
