"""The messages of an edge node as bytes: births, data, deaths. Pure.

The topics are those of `Topics`, all at QoS 0 and never retained (tck-id-topics-nbirth-mqtt, -ndata-mqtt, -dbirth-mqtt,
-ddata-mqtt, -ddeath-mqtt), but for the NDEATH, which is the will at QoS 1 (tck-id-payloads-ndeath-will-message-qos).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qedge.fleet.sparkplug.model import BD_SEQ, REBIRTH, DataType, Metric, Past, Payload, Reading
from qedge.fleet.sparkplug.payload import encode_payload, fits


def birth(readings: Mapping[str, Reading], utc_ms: int, seq: int, *, bd_seq: int | None = None) -> bytes:
    """Write a birth: every metric with name, type, time, and a value or null. `bd_seq` makes it that of the node.

    tck-id-topics-nbirth-metric-reqs, -metrics, -timestamp, tck-id-operational-behavior-data-publish-nbirth and
    -nbirth-values, and the same of dbirth; tck-id-topics-nbirth-bdseq-included and -bdseq-matching;
    tck-id-topics-nbirth-rebirth-metric, tck-id-operational-behavior-data-commands-rebirth-value (it never has an
    alias: -rebirth-name-aliases). bdSeq is an Int64, as the rules say, though an example prints UInt64.
    """
    fixed: tuple[Metric, ...] = ()
    if bd_seq is not None:
        fixed = (
            Metric(BD_SEQ, DataType.INT64, bd_seq, utc_ms),
            Metric(REBIRTH, DataType.BOOLEAN, False, utc_ms),
        )
    # tck-id-operational-behavior-data-publish-nbirth-order: by time, also in a birth
    metrics = [_metric(name, reading) for name, reading in readings.items() if name != REBIRTH]
    ordered = tuple(sorted((*fixed, *metrics), key=lambda each: each.timestamp_ms or 0))
    return encode_payload(Payload(utc_ms, ordered, seq))


def data(rows: Sequence[Past], utc_ms: int, seq: int, *, historical: bool) -> bytes:
    """Write an NDATA or DDATA of readings of one owner (tck-id-topics-ndata-payload, -ddata-payload, -timestamp)."""
    metrics = tuple(_metric(row.name, row.reading, historical=historical) for row in rows)
    return encode_payload(Payload(utc_ms, metrics, seq), datatypes=False)


def death_of_node(bd_seq: int, utc_ms: int) -> bytes:
    """Write an NDEATH: bdSeq and nothing else, above all no `seq`.

    tck-id-topics-ndeath-payload, -ndeath-seq, tck-id-payloads-ndeath-bdseq.
    """
    return encode_payload(Payload(utc_ms, (Metric(BD_SEQ, DataType.INT64, bd_seq, utc_ms),)))


def death_of_device(utc_ms: int, seq: int) -> bytes:
    """Write a DDEATH (tck-id-payloads-ddeath-timestamp, -ddeath-seq-number)."""
    return encode_payload(Payload(utc_ms, (), seq))


def _metric(name: str, reading: Reading, *, historical: bool = False) -> Metric:
    value = reading.value if reading.value is not None and fits(reading.value, reading.datatype) else None
    utc_ms = max(0, reading.utc_ms)
    return Metric(name, reading.datatype, value, utc_ms, is_historical=historical, quality=reading.quality)
