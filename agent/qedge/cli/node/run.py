"""`qedge run`: the daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from qedge.config import LoadedConfig

NAME: Final = "run"
SUMMARY: Final = "Run the daemon of this box in the foreground."
_REAP_LIMIT_S: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--config", default="", metavar="PATH", help="configuration file or folder (default: /etc/qedge if it is there)"
    )
    parser.add_argument("--state-dir", default="", metavar="DIR", help="keep everything of this node below DIR")
    parser.add_argument("--quiet", action="store_true", help="print neither banner nor progress")


class EarlyHangup:
    """Notes a SIGHUP that comes before the daemon can reload; without it the signal would end the process."""

    def __init__(self) -> None:
        self.seen = False
        signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True


def run(args: argparse.Namespace) -> int:
    """Check what can be missing, then run until SIGTERM or Ctrl-C."""
    early = EarlyHangup()
    gc.disable()  # nothing of what modules are made of is garbage; the daemon goes on collecting when all are loaded
    # What follows imports much; a SIGHUP during it is only noted.
    from qedge.base.errors import QedgeError
    from qedge.cli.node import preflight
    from qedge.daemon.first_look import FirstLook

    preflight.check_python()
    look = FirstLook(args.config, args.state_dir)
    while True:
        try:
            loaded = look.load()
            return _run(args, loaded, early)
        except QedgeError as error:
            # A configuration that the fleet gave and that cannot even start is undone at once.
            if not look.undo(error):
                raise


def _run(args: argparse.Namespace, loaded: LoadedConfig, early: EarlyHangup) -> int:
    import uvloop

    from qedge.base.log import LogConfig, configure
    from qedge.cli.configuration.check import describe
    from qedge.cli.node import preflight
    from qedge.config import check_config, load
    from qedge.daemon.lifecycle import Daemon

    node, http = loaded.config.node, loaded.config.http
    preflight.prepare_directory(Path(node.state_dir), "node.state_dir")
    preflight.prepare_directory(Path(node.runtime_dir), "node.runtime_dir")
    preflight.check_disk(Path(node.state_dir))
    preflight.check_socket_path(Path(node.runtime_dir) / "qedge.sock")
    if http.enabled:
        preflight.check_port(http.host, http.port, "http.port")
    silent = args.quiet or "NOTIFY_SOCKET" in os.environ
    log = loaded.config.log
    if not silent and sys.stderr.isatty() and log == LogConfig():
        log = LogConfig(level="warning")  # the banner and its progress say the rest to a person
    configure(log)
    daemon = Daemon(
        loaded,
        reload=lambda: load(args.config, state_dir=args.state_dir),
        check=lambda layer: check_config(args.config, state_dir=args.state_dir, describe=describe, fleet_layer=layer),
        narrate=_stay_silent if silent else _print_line,
        hung_up=lambda: early.seen,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clean = runner.run(daemon.run())
        if not clean:
            # A service did not heed its cancellation; waiting for it would hang the stop that systemd timed.
            sys.stdout.flush()
            sys.stderr.flush()
            if not daemon.restart_wanted:
                os._exit(0)
            begin_again()
    if daemon.restart_wanted:
        begin_again()
    return 0


def begin_again() -> NoReturn:
    """Become a new daemon in the same process, so that who supervises it sees none of it."""
    import psutil

    # What an abandoned service left behind would outlive the daemon that it belongs to: to the kernel its parent lives.
    mine = psutil.Process().children()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(mine, timeout=_REAP_LIMIT_S)  # else they stay with the new daemon, dead, and nobody asks for them
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # survives exec; the new daemon reads its files anyway
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is the point


def _print_line(line: str) -> None:
    print(line, flush=True)


def _stay_silent(_line: str) -> None:
    return
