"""Whatever happens to a spool, its counts are those of its table, and every number is accounted for."""

from __future__ import annotations

import random
import sqlite3

import pytest

from qedge.fleet.telemetry.model import KINDS, Waiting
from qedge.fleet.telemetry.rows import Change, LaneLimits, Rows
from qedge.store.fifo import ROW_BYTES, Span
from qedge.store.spool_schemas import TELEMETRY_MIGRATIONS
from qedge.wire.telemetry import TelemetryClass


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in TELEMETRY_MIGRATIONS:
        for statement in migration:
            connection.execute(statement)
    return connection


def truth(connection: sqlite3.Connection, kind: TelemetryClass) -> tuple[int, int]:
    rows, size = connection.execute(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM items WHERE kind = ?", (kind.value,)
    ).fetchone()
    return rows, size + rows * ROW_BYTES


@pytest.mark.parametrize("drop", ["oldest", "newest", "thin"])
@pytest.mark.parametrize("seed", range(2))
def test_counts_agree_with_the_table_and_every_number_is_accounted_for(drop: str, seed: int) -> None:
    chance, connection = random.Random(seed), database()
    limits = {kind: LaneLimits(chance.randint(5, 60), chance.randint(2_000, 20_000), drop) for kind in KINDS}
    rows = Rows(limits)
    rows.load(connection)
    told, gone, time_ns = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), 1

    def apply(changes: list[Change]) -> None:
        rows.apply(changes)
        for change in changes:
            gone[change.kind] += change.gave_way + change.refused

    for _ in range(150):
        kind = chance.choice(KINDS)
        match chance.randrange(5):
            case 0 | 1 | 2:
                batch = {
                    each: [
                        Waiting(time_ns + n, chance.choice("ab"), bytes(chance.randint(0, 300)))
                        for n in range(chance.randint(0, 30))
                    ]
                    for each in KINDS
                }
                for each, items in batch.items():
                    told[each] += len(items)
                time_ns += 40
                apply(rows.append(connection, batch=batch))
            case 3:
                found = rows.read(connection, limit=chance.randint(1, 20), kind=chance.choice([kind, None]))
                assert [row.id for row in found] == sorted(row.id for row in found)
                if found and chance.random() < 0.7:
                    chosen = {row.kind for row in found}
                    for each in chosen:
                        last = max(row.id for row in found if row.kind is each)
                        gone[each] += sum(row.kind is each for row in found)
                        apply(rows.erase(connection, span=Span(0, last), kind=each))
            case 4:
                apply(rows.expire(connection, before_ns={kind: time_ns - chance.randint(10, 2000)}))
                rows.release()
        for each, state in rows.lanes.items():
            assert (state.rows, state.num_bytes) == truth(connection, each)
            assert state.last == told[each]
            assert told[each] == state.rows + gone[each]
            in_order = connection.execute("SELECT sequence FROM items WHERE kind = ? ORDER BY id", (each.value,))
            numbers = [row[0] for row in in_order]
            assert numbers == sorted(set(numbers))
    again = Rows(limits)
    again.load(connection)
    assert again.lanes == rows.lanes
