"""Software updates by fleet operators: what carries out the command `software-update` on this box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qedge import __version__
from qedge.base.clock import Clock
from qedge.config import AgentConfig
from qedge.fleet.commands.ports import Executor
from qedge.fleet.update.machine import platform_name, python_version
from qedge.fleet.update.model import Layout
from qedge.fleet.update.service import SoftwareUpdateExecutor

ROOT = Layout().root
"""Folder of the two environments."""


def make_update(config: AgentConfig, clock: Clock, stopping: Callable[[], bool], root: Path = ROOT) -> list[Executor]:
    """Return the executors of software updates; `stopping` says whether the daemon ends."""
    layout = Layout(root, Path(config.node.state_dir))
    executor = SoftwareUpdateExecutor(
        layout,
        version=__version__,
        python=python_version(),
        platform=platform_name(),
        clock=clock,
        stopping=stopping,
    )
    return [executor]
