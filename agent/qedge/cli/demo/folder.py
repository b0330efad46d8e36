"""The folder of a demo: goes away with it, or where the demo was killed, with the next one."""

from __future__ import annotations

from typing import Final

from qedge_driver_api.held_folder import HeldFolder

PREFIX: Final = "qedge-demo-"
LOCK: Final = "demo.lock"


class DemoFolder(HeldFolder):
    """A folder of demos. One that `stays` is removed by no other demo: nodes may run in it."""

    def __init__(self, *, stays: bool = False) -> None:
        super().__init__(PREFIX, lock=LOCK, stays=stays)
