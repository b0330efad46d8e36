"""Runs in an environment of its own with pysparkplug: births and data as hex on standard input, what they hold as JSON.

The last line is an NCMD that pysparkplug writes itself.
"""

import json
import sys

import pysparkplug as sp


def told(message):
    return {
        "seq": getattr(message, "seq", None),
        "timestamp": message.timestamp,
        "metrics": [
            [
                metric.name,
                metric.datatype.name.lower() if metric.datatype is not None else None,
                str(metric.value) if isinstance(metric.value, int) else metric.value,
                metric.timestamp,
                bool(metric.is_historical),
            ]
            for metric in message.metrics
        ],
    }


births = {}
for line in sys.stdin:
    kind, owner, raw = line.split(" ")
    if kind.endswith("BIRTH"):
        found = births[owner] = {"NBIRTH": sp.NBirth, "DBIRTH": sp.DBirth}[kind].decode(bytes.fromhex(raw))
    elif kind == "NDEATH":
        raw_payload = sp.NDeath.decode(bytes.fromhex(raw))
        print(json.dumps({"bd_seq": raw_payload.bd_seq_metric.value}))
        continue
    else:
        found = {"NDATA": sp.NData, "DDATA": sp.DData}[kind].decode(bytes.fromhex(raw), birth=births[owner])
    print(json.dumps(told(found)))
command = sp.NCmd(
    timestamp=5,
    metrics=(
        sp.Metric(timestamp=6, name="Node Control/Rebirth", datatype=sp.DataType.BOOLEAN, value=True),
        sp.Metric(timestamp=6, name="a", datatype=sp.DataType.INT32, value=-7),
        sp.Metric(timestamp=6, name="b", datatype=sp.DataType.DOUBLE, value=0.5),
        sp.Metric(timestamp=6, name="c", datatype=sp.DataType.STRING, value="é"),
    ),
)
print(command.encode().hex())
