"""The child process `python -m qedge.bus.iotcore_broker CONFIG`: rumqttd of the `iotcore` wheel, until stdin closes."""

from __future__ import annotations

import logging
import os
import sys
import threading

from iotcore import IotCoreBroker


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(config_path: str) -> None:
    """Serve until the daemon goes away."""
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    IotCoreBroker(config_path=config_path).run_forever()


if __name__ == "__main__":
    main(sys.argv[1])
