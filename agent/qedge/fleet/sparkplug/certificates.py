"""The messages of an edge node as bytes: births, data, deaths. Pure.

The topics are those of `Topics`. Every payload has the time at which it is written, in milliseconds UTC
(tck-id-topics-{nbirth,ndata,dbirth,ddata}-timestamp, tck-id-payloads-{nbirth,ndata,dbirth,ddata,ddeath}-timestamp,
tck-id-payloads-timestamp-in-UTC), and but for the NDEATH a `seq`
(tck-id-payloads-{nbirth,ndata,dbirth,ddata,ddeath}-seq).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qedge.fleet.sparkplug.model import BD_SEQ, REBIRTH, DataType, Metric, Past, Payload, Reading
from qedge.fleet.sparkplug.payload import encode_payload, fits


def birth(readings: Mapping[str, Reading], utc_ms: int, seq: int, *, bd_seq: int | None = None) -> bytes:
    """Write a birth: every metric with name, type, time, and a value or null. `bd_seq` makes it that of the node.

    tck-id-topics-{nbirth,dbirth}-{metric-reqs,metrics}, tck-id-operational-behavior-data-publish-{nbirth,dbirth},
    tck-id-operational-behavior-data-publish-{nbirth,dbirth}-values, tck-id-payloads-metric-datatype-req,
    tck-id-message-flow-edge-node-birth-publish-nbirth-payload, tck-id-message-flow-device-birth-publish-dbirth-payload.

    bdSeq is that of the will, an Int64, as the rules say, though an example prints UInt64:
    tck-id-topics-nbirth-bdseq-{included,matching}, tck-id-payloads-nbirth-{bdseq,bdseq-repeat},
    tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq.

    Rebirth is false and has no alias: tck-id-topics-nbirth-rebirth-metric, tck-id-payloads-nbirth-rebirth-req,
    tck-id-operational-behavior-data-commands-rebirth-{name,name-aliases,datatype,value}.
    """
    fixed: tuple[Metric, ...] = ()
    if bd_seq is not None:
        fixed = (
            Metric(BD_SEQ, DataType.INT64, bd_seq, utc_ms),
            Metric(REBIRTH, DataType.BOOLEAN, False, utc_ms),
        )
    # tck-id-operational-behavior-data-publish-{nbirth,dbirth}-order: by time, also in a birth
    metrics = [_metric(name, reading) for name, reading in readings.items() if name != REBIRTH]
    ordered = tuple(sorted((*fixed, *metrics), key=lambda each: each.timestamp_ms or 0))
    return encode_payload(Payload(utc_ms, ordered, seq))


def data(rows: Sequence[Past], utc_ms: int, seq: int, *, historical: bool) -> bytes:
    """Write an NDATA or DDATA of readings of one owner (tck-id-topics-{ndata,ddata}-payload)."""
    metrics = tuple(_metric(row.name, row.reading, historical=historical) for row in rows)
    return encode_payload(Payload(utc_ms, metrics, seq), datatypes=False)


def death_of_node(bd_seq: int, utc_ms: int) -> bytes:
    """Write an NDEATH: bdSeq and nothing else, above all no `seq`.

    tck-id-topics-ndeath-{payload,seq}, tck-id-payloads-ndeath-{seq,bdseq},
    tck-id-message-flow-edge-node-birth-publish-will-message-payload.
    """
    return encode_payload(Payload(utc_ms, (Metric(BD_SEQ, DataType.INT64, bd_seq, utc_ms),)))


def death_of_device(utc_ms: int, seq: int) -> bytes:
    """Write a DDEATH (tck-id-payloads-ddeath-seq-number)."""
    return encode_payload(Payload(utc_ms, (), seq))


def _metric(name: str, reading: Reading, *, historical: bool = False) -> Metric:
    value = reading.value if reading.value is not None and fits(reading.value, reading.datatype) else None
    utc_ms = max(0, reading.utc_ms)
    return Metric(name, reading.datatype, value, utc_ms, is_historical=historical, quality=reading.quality)
