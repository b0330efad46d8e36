"""The life of the daemon's process: start, READY, reload on SIGHUP, ordered stop on SIGTERM or before a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from qedge import __version__
from qedge.base.errors import QedgeError
from qedge.base.log import configure, get_logger
from qedge.base.metrics import Metrics
from qedge.base.struct_tables import build_struct_tables
from qedge.base.system_clock import SystemClock
from qedge.base.systemd import Notifier
from qedge.config import Change, LoadedConfig, Verdict, changed_sections
from qedge.daemon.compose import Parts, add_driver, add_gateway, compose, remove_driver
from qedge.daemon.fleet_configuration import Running
from qedge.daemon.identity import broker_password, load_identity
from qedge.daemon.key_files import KeyFiles, open_key_files
from qedge.daemon.managed import Power
from qedge.daemon.managing import add_management, open_telemetry
from qedge.daemon.pauses import collect_from_now, shorten_pauses
from qedge.daemon.wiping import wipe_if_marked
from qedge.store.spool_schemas import SPOOL_SCHEMA
from qedge.store.store import Store

_LOG: Final = get_logger("daemon")
READY_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 4.0
"""Leaves a second of the five that a stop may take for the database and the interpreter."""

WARM_LIMIT_S: Final = 120.0
_LAST_WORD_S: Final = 2.0
_ANSWER_S: Final = 0.2
"""Time in which the answer to whoever changed the identity still leaves, before the services stop."""


class Daemon:
    """One run of the daemon.

    `reload` reads the configuration again, `check` looks for its faults with another layer of the fleet (empty: none);
    `narrate` prints a line for a person.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        reload: Callable[[], LoadedConfig],
        check: Callable[[str], Verdict],
        narrate: Callable[[str], None],
        hung_up: Callable[[], bool],
    ) -> None:
        self._loaded = loaded
        self._reload_config = reload
        self._check = check
        self._narrate = narrate
        self._hung_up = hung_up
        self._clock = SystemClock()
        self._started_ns = self._clock.now_ns()
        self._notifier = Notifier(os.environ)
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._renewed = asyncio.Event()
        self._again = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._restart_due = False
        self._signal = ""
        self._wipe = False

    @property
    def restart_wanted(self) -> bool:
        """Whether the daemon ended in order to be started again."""
        return self._again.is_set() and not self._stop.is_set()

    async def run(self) -> bool:
        """Run until SIGTERM or SIGINT; returns False where a service had to be abandoned."""
        self._catch_signals()
        config = self._loaded.config
        self._wipe_now()
        _LOG.info(
            "daemon.starting",
            version=__version__,
            node=config.node.name,
            fleet=config.node.fleet,
            state_dir=config.node.state_dir,
        )
        metrics = Metrics()
        store = Store(Path(config.node.state_dir) / "qedge.sqlite3", metrics=metrics)
        key_files, spool, telemetry = None, None, None
        try:
            key_files = open_key_files(config, metrics)
            if config.devices.enabled:
                spool = Store(Path(config.node.state_dir) / "spool.sqlite3", metrics=metrics, schema=SPOOL_SCHEMA)
            telemetry = open_telemetry(config, metrics)
            while True:
                parts = await self._compose(store, key_files, metrics)
                if spool is not None:
                    await add_gateway(parts, spool)
                add_management(parts, self._running(parts), telemetry)
                build_struct_tables()  # all that will be decoded is loaded now, and no thread has begun
                collect_from_now()
                clean = await self._live(parts)
                if self._stop.is_set() or self._again.is_set() or not clean:
                    return clean
                _LOG.info("daemon.identity_changed")
        finally:
            for each in (telemetry, spool):
                if each is not None:
                    each.close()
            if key_files is not None:
                key_files.close()
            store.close()
            if self._wipe:
                self._wipe_now()

    def _wipe_now(self) -> None:
        if wipe_if_marked(Path(self._loaded.config.node.state_dir)):
            _LOG.warning("daemon.wiped")

    def _wipe_soon(self) -> None:
        """Stop once the last word of this identity had time to leave; after a crash the next start does it."""
        self._wipe = True
        asyncio.get_running_loop().call_later(_LAST_WORD_S, self._ask_stop, "wipe")

    async def _compose(self, store: Store, key_files: KeyFiles, metrics: Metrics) -> Parts:
        """Make the services of the identity that the database holds now."""
        config = self._loaded.config
        # Seconds since 1970 are a floor, so that a box whose database was lost still speaks with a higher epoch.
        floor = self._clock.utc_ns() // 1_000_000_000
        epoch = max(int(await store.get_meta("epoch", "0")) + 1, floor)
        await store.set_meta("epoch", str(epoch))
        identity = await load_identity(
            store, config.node.fleet, config.node.name, self._clock.utc_ns(), secrets.token_bytes
        )
        password = await broker_password(store, secrets.token_hex)
        self._renewed.clear()
        return compose(
            config,
            identity,
            store=store,
            key_files=key_files,
            metrics=metrics,
            epoch=epoch,
            notifier=self._notifier,
            broker_password=password,
            renew=self._renewed.set,
            power=Power(self._again.set, self._wipe_soon),
        )

    async def _live(self, parts: Parts) -> bool:
        """Run one set of services until a signal comes or the node has got another identity."""
        metrics, supervisor = parts.metrics, parts.supervisor
        metrics.set("qedge_build_info", 1, (__version__, platform.python_version()))
        metrics.set("qedge_start_time_seconds", self._clock.utc_ns() / 1e9)
        supervisor.start()
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._greet(parts)),
            asyncio.create_task(self._reload_on_hangup(parts)),
        ]
        waits: list[asyncio.Task[object]] = [
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._renewed.wait()),
            asyncio.create_task(self._again.wait()),
        ]
        tasks += waits
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                await asyncio.sleep(_ANSWER_S)
        finally:
            begun_ns = self._clock.now_ns()
            if self._stop.is_set():
                self._notifier.stopping()
            _LOG.info("daemon.stopping", signal=self._signal)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._stop.is_set():
                await parts.across.ledger.drain.before_stop()
            clean = await supervisor.stop(STOP_LIMIT_S)
            _LOG.info("daemon.stopped", stop_s=round((self._clock.now_ns() - begun_ns) / 1e9, 3))
        return clean

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        if self._hung_up():
            self._hangup.set()

    def _ask_stop(self, name: str) -> None:
        self._signal = name
        self._stop.set()

    async def _greet(self, parts: Parts) -> None:
        """Say READY once every essential service is up, then show how the workers warm up."""
        missing = await parts.supervisor.wait_ready(READY_LIMIT_S)
        while missing:
            self._notifier.status(f"waiting for {', '.join(missing)}")
            missing = await parts.supervisor.wait_ready(READY_LIMIT_S)
        ready_s = (self._clock.now_ns() - self._started_ns) / 1e9
        self._notifier.ready(f"ready as {parts.tools.identity.node}, drivers are opening")
        _LOG.info("daemon.ready", ready_s=round(ready_s, 3), socket=parts.web.socket, http=parts.web.address)
        shorten_pauses()
        self._tell_where(parts)
        await self._tell_progress(parts)

    def _tell_where(self, parts: Parts) -> None:
        node, identity = parts.config.node, parts.tools.identity
        say = self._narrate
        alone = " (standalone)" if identity.standalone else ""
        say(f"qedge {__version__}: node {identity.node}, fleet {identity.fleet}{alone}")
        say(f"  socket   {parts.web.socket}")
        if parts.web.address:
            say(f"  http     {parts.web.address}   health, metrics, page")
        say(f"  state    {node.state_dir}")
        say("  Try in another terminal:  qedge status   |   qedge random 32 --hex   |   qedge open")

    async def _tell_progress(self, parts: Parts) -> None:
        told: set[str] = set()
        end_ns = self._clock.now_ns() + round(WARM_LIMIT_S * 1e9)
        while len(told) < len(parts.drivers) and self._clock.now_ns() < end_ns:
            for view in parts.node.drivers():
                if view.operating_state != "down" and view.name not in told:
                    told.add(view.name)
                    label = ", simulated" if view.simulated else ""
                    self._narrate(f"  [{len(told)}/{len(parts.drivers)}] {view.name}: {view.kind} up{label}")
            await asyncio.sleep(0.1)
        up = sum(view.operating_state != "down" for view in parts.node.drivers())
        self._notifier.status(f"{up} of {len(parts.drivers)} drivers up")
        if up == len(parts.drivers):
            self._narrate("  All drivers are up. Ctrl-C stops the node.")

    async def _reload_on_hangup(self, parts: Parts) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            await parts.supervisor.wait_ready(READY_LIMIT_S)
            with contextlib.suppress(QedgeError):  # which was told
                await self._reload(parts)

    async def _reload(self, parts: Parts) -> None:
        """Read the configuration again and take over what can change; raises `config.*` and keeps the old one."""
        async with self._reloading:
            self._notifier.reloading(time.monotonic_ns())
            try:
                loaded = await asyncio.to_thread(self._reload_config)
            except QedgeError as error:
                _LOG.error("daemon.reload_refused", code=error.code, faults=str(error))
                self._notifier.ready(f"reload refused: {error.message}"[:200])
                raise
            await self._apply(parts, loaded)
            self._notifier.ready("configuration reloaded")

    def _running(self, parts: Parts) -> Running:
        return Running(
            loaded=lambda: self._loaded,
            in_force=lambda: parts.config,
            check=self._check,
            reload=lambda: self._reload(parts),
            restart_due=lambda: self._restart_due,
            restart=self._again.set,
            stopping=lambda: self._stop.is_set() or self._again.is_set() or self._renewed.is_set(),
        )

    async def _apply(self, parts: Parts, loaded: LoadedConfig) -> None:
        """Take over what can change in a running daemon; jobs and sessions are not touched."""
        new = loaded.config
        # Applications and certificates change without a restart; what is left of [qkd] waits for one.
        parts.node.keys.desk.registry.reconfigure(new.qkd.saes)
        await parts.keys.service.reload()
        await parts.node.reload_policy()
        old = msgspec.structs.replace(parts.config, qkd=msgspec.structs.replace(parts.config.qkd, saes=new.qkd.saes))
        changes = changed_sections(old, new)
        later = [change.section for change in changes if not change.live]
        self._restart_due = bool(later)
        if later:
            _LOG.warning("daemon.restart_needed", keys=later)
        live = {change.section: change for change in changes if change.live}
        if "log" in live:
            configure(new.log)
        # Sections that wait for the next start keep their old values, so that a later reload compares rightly.
        parts.config = msgspec.structs.replace(old, log=new.log, drivers=new.drivers)
        if "drivers" in live:
            await self._change_drivers(parts, live["drivers"])
        self._loaded = loaded
        _LOG.info("daemon.reloaded", changed=[change.section for change in changes])

    async def _change_drivers(self, parts: Parts, change: Change) -> None:
        for name in change.names:
            await remove_driver(parts, name)
            config = parts.config.drivers.get(name)
            if config is not None and config.enabled:
                add_driver(parts, name, config)
