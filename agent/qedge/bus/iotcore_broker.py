"""The child process `python -m qedge.bus.iotcore_broker CONFIG`: rumqttd of the `iotcore` wheel, until it is killed."""

from __future__ import annotations

import logging
import sys

from iotcore.iotcore import IotCoreBroker


def main(config_path: str) -> None:
    """Serve for ever; `qedge.base.with_parent` sees to it that this ends with the daemon."""
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)  # it logs every packet as an error
    IotCoreBroker(config_path=config_path).run_forever()


if __name__ == "__main__":
    main(sys.argv[1])
