"""One configured driver: its workers, whether it may be used, and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.wire.node import DriverChange, DriverView, Fact
from qedge.workers.config import DriverConfig, WorkersConfig
from qedge.workers.model import Msg, WorkerSpec
from qedge.workers.pool import WorkerPool
from qedge.workers.ports import AdminStates
from qedge.workers.process import WorkerProcess
from qedge_driver_api import AdminState, OperatingState

_LOG: Final = get_logger("workers")
DRIVER_HOST: Final = "qedge.workers.driver_host:DriverHost"


class DriverService:
    """Runs the workers of one driver instance and keeps its administrative and operating state.

    The driver counts as up while a worker is open and its health says so; a driver that fails to open, crashes or is
    found lying goes down, is reported, and comes back by itself.
    """

    def __init__(
        self,
        instance: str,
        config: DriverConfig,
        workers: WorkersConfig,
        *,
        state_dir: str,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        admin_states: AdminStates,
        target: str = DRIVER_HOST,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.instance = instance
        self.config = config
        self._workers = workers
        self._metrics = metrics
        self._admin_states = admin_states
        self._on_change = on_change
        self._settings: dict[str, Msg] = _plain_settings(config.settings)
        self._admin = AdminState.UNLOCKED
        self._operating = OperatingState.DOWN
        self._reason = "starting"
        self._description: dict[str, Msg] = {}
        self._properties: dict[str, Fact | list[Fact]] = {}
        self._noted: dict[str, Fact] = {}
        self._opened = asyncio.Event()
        self._ignored = asyncio.Event()
        init: dict[str, Msg] = {
            "driver": config.driver,
            "instance": instance,
            "settings": self._settings,
            "state_dir": state_dir,
        }
        spec = WorkerSpec(
            name=instance,
            target=target,
            init=init,
            start_timeout_s=workers.start_timeout_s,
            heartbeat_timeout_s=workers.heartbeat_timeout_s,
            memory_limit_bytes=workers.memory_limit_mib * 2**20,
            cpu_limit_s=workers.cpu_limit_s,
            max_calls=workers.max_calls,
        )
        self._pool = WorkerPool(
            spec,
            size=config.workers,
            spares=config.spares,
            clock=clock,
            metrics=metrics,
            random_bytes=random_bytes,
            uniform=uniform,
            prepare=self._prepare,
            on_change=self._pool_changed,
        )

    @property
    def name(self) -> str:
        """Name of the service."""
        return f"driver-{self.instance}"

    @property
    def kind(self) -> str:
        """`qpu`, `qkd` or `qrng`; empty until the driver has been described."""
        return str(self._description.get("kind", ""))

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind the driver."""
        return bool(self._description.get("simulated", False))

    @property
    def is_up(self) -> bool:
        """Whether calls may be made now."""
        return self._admin is AdminState.UNLOCKED and self._operating is not OperatingState.DOWN and self._pool.is_up

    @property
    def properties(self) -> Mapping[str, Fact | list[Fact]]:
        """What the driver said of itself when it was opened last, and what the node found out about it."""
        return {**self._properties, **self._noted}

    def note(self, facts: Mapping[str, Fact]) -> None:
        """Tell with its properties what the node found out about the driver, in place of what it found before."""
        self._noted = dict(facts)
        self._on_change()

    async def call(
        self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False, rank: int = 1
    ) -> Msg:
        """Call the driver; raises `driver.locked` and whatever the worker raises."""
        if self._admin is AdminState.LOCKED:
            raise QedgeError(
                "driver.locked",
                f"The driver {self.instance} is locked by the operator.",
                fix=f"`qedge drivers unlock {self.instance}`.",
            )
        try:
            return await self._pool.call(method, args, deadline_s=deadline_s, light=light, rank=rank)
        except QedgeError as error:
            if error.code in ("driver.lied", "worker.bad_answer", "worker.deadline", "driver.fatal"):
                _LOG.warning("driver.failed", driver=self.instance, code=error.code, error=str(error))
            raise

    def process(self) -> WorkerProcess:
        """Return the worker of a driver that has one, to speak to it in streams; raises `worker.unavailable`."""
        if self._admin is AdminState.LOCKED:
            raise QedgeError("driver.locked", f"The driver {self.instance} is locked by the operator.")
        return self._pool.only_process()

    async def restart(self, reason: str) -> None:
        """Replace the driver's workers."""
        await self._pool.restart(reason)

    def view(self) -> DriverView:
        """Describe the driver and its workers."""
        return DriverView(
            name=self.instance,
            driver=self.config.driver,
            kind=self.kind,
            version=str(self._description.get("version", "")),
            simulated=self.simulated,
            admin_state=self._admin.value,
            operating_state=self._operating.value,
            reason=self._reason,
            workers=self._pool.views(),
            properties=dict(self.properties),
        )

    async def change(self, change: DriverChange) -> DriverView:
        """Lock or unlock, or change settings: at once where the driver can, else by restarting its workers."""
        if change.admin_state:
            await self._set_admin(change.admin_state)
        if change.settings:
            await self._set_settings(_plain_settings(change.settings))
        return self.view()

    async def run(self, ready: Ready) -> None:
        """Run the workers and look after the driver until cancelled."""
        self._admin = AdminState(await self._admin_states.get(self.instance))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._pool.run(lambda: None)), group.create_task(self._look_after())]
            if self.config.startup == "error":
                await self._opened.wait()
            ready()
            if self.config.startup == "ignore":
                await self._ignored.wait()
                _LOG.warning("driver.withdrawn", driver=self.instance, reason=self._reason, code="startup")
                for task in tasks:
                    task.cancel()

    async def _prepare(self, worker: WorkerProcess) -> None:
        """Open the driver in a fresh worker."""
        deadline_s = self._workers.call_deadline_s
        try:
            described = await worker.call("describe", {}, deadline_s=deadline_s)
            self._description = described if isinstance(described, dict) else {}
            await worker.call("configure", {"settings": dict(self._settings)}, deadline_s=deadline_s)
            await worker.call("open", {}, deadline_s=self._workers.start_timeout_s)
            if self.kind == "qpu":
                await worker.call("warm", {}, deadline_s=self._workers.start_timeout_s)
            properties = await worker.call("properties", {}, deadline_s=deadline_s)
        except QedgeError as error:
            if not self._pool.is_up:  # a spare that does not open takes nothing away
                self._set_operating(OperatingState.DOWN, str(error), error.code)
            raise
        self._properties = _facts(properties)
        self._set_operating(OperatingState.UP, "")
        self._opened.set()
        _LOG.info("driver.opened", driver=self.instance, kind=self.kind)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(self._workers.health_interval_s)
            if not self._pool.is_up or self._admin is AdminState.LOCKED:
                continue
            if all(worker.state != "ready" for worker in self._pool.views()):
                continue  # a driver has one thread; its running call has a deadline of its own
            try:
                answer = await self._pool.call("health", {}, deadline_s=self._workers.call_deadline_s, light=True)
            except QedgeError as error:
                if error.code != "worker.unavailable":
                    self._set_operating(OperatingState.DOWN, str(error), error.code)
                continue
            self._set_operating(*_health(answer))

    def _pool_changed(self) -> None:
        error = self._pool.last_error
        if self.config.startup == "ignore" and error is not None and not self._opened.is_set():
            self._ignored.set()
        if not self._pool.is_up and self._operating is not OperatingState.DOWN:
            self._set_operating(OperatingState.DOWN, str(error) if error else "no worker is running")
        elif self._pool.is_up and self._operating is OperatingState.DOWN:
            self._set_operating(OperatingState.UP, "")
        else:
            self._on_change()

    def _set_operating(self, state: OperatingState, reason: str, code: str = "") -> None:
        before = self._operating
        self._operating, self._reason = state, reason
        up = state is not OperatingState.DOWN and self._admin is AdminState.UNLOCKED
        self._metrics.set("qedge_driver_up", 1.0 if up else 0.0, (self.instance, self.kind))
        if state is before:
            return
        if state is OperatingState.DOWN:
            _LOG.warning("driver.withdrawn", driver=self.instance, reason=reason, code=code)
        self._on_change()

    async def _set_admin(self, wanted: str) -> None:
        try:
            state = AdminState(wanted)
        except ValueError:
            raise QedgeError("job.bad_request", "admin_state is `locked` or `unlocked`.") from None
        await self._admin_states.set(self.instance, state.value)
        self._admin = state
        _LOG.info("driver.locked", driver=self.instance, admin_state=state.value)
        self._on_change()

    async def _set_settings(self, settings: dict[str, Msg]) -> None:
        merged = {**self._settings, **settings}
        deadline_s = self._workers.call_deadline_s
        # Checked by one worker first, so that a bad value changes nothing.
        applied = await self._pool.call("reconfigure", {"settings": merged}, deadline_s=deadline_s, light=True)
        self._settings = merged
        if not applied:
            await self._pool.restart("settings")
            return
        if self.config.workers + self.config.spares > 1:
            await self._pool.call_each("reconfigure", {"settings": merged}, deadline_s=deadline_s)
        self._properties = _facts(await self._pool.call("properties", {}, deadline_s=deadline_s, light=True))
        self._on_change()


def _health(answer: Msg) -> tuple[OperatingState, str]:
    """Read what a worker says of its driver; a bad driver shares its memory, so it may say anything."""
    health = answer if isinstance(answer, dict) else {}
    try:
        return OperatingState(str(health.get("state", "down"))), str(health.get("reason", ""))
    except ValueError:
        return OperatingState.DOWN, "its health cannot be read"


def _plain_settings(settings: Mapping[str, object]) -> dict[str, Msg]:
    plain: dict[str, Msg] = {}
    for key, value in settings.items():
        if isinstance(value, (list, tuple)):
            plain[key] = [item for item in value if isinstance(item, (str, int, float, bool))]
        elif isinstance(value, (str, int, float, bool)):
            plain[key] = value
    return plain


def _facts(properties: Msg) -> dict[str, Fact | list[Fact]]:
    facts: dict[str, Fact | list[Fact]] = {}
    for key, value in (properties if isinstance(properties, dict) else {}).items():
        if isinstance(value, list):
            facts[key] = [item for item in value if isinstance(item, (str, int, float, bool))]
        elif isinstance(value, (str, int, float, bool)):
            facts[key] = value
    return facts
