"""The database: locked, durable, migrated, and honest about a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.store.schema import APPLICATION_ID, VERSION
from qedge.store.store import RESERVE_BYTES, Store

OLD = Path(__file__).parent / "databases"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open, empty store."""
    made = Store(tmp_path / "q.sqlite3", metrics=Metrics())
    yield made
    made.close()


def _code(path: Path) -> str:
    with pytest.raises(QedgeError) as error:
        Store(path, metrics=Metrics())
    return error.value.code


def _write_foreign(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_only_the_owner_may_read_it_and_a_reserve_is_kept(store: Store, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "q.sqlite3").stat().st_mode) == 0o600
    assert (tmp_path / "q.reserve").stat().st_size == RESERVE_BYTES
    await store.set_meta("a", "1")


async def test_a_second_daemon_on_the_same_file_is_refused(store: Store, tmp_path: Path) -> None:
    assert _code(tmp_path / "q.sqlite3") == "start.already_running"
    await store.set_meta("still", "works")


async def test_small_values_survive_a_reopening(tmp_path: Path) -> None:
    for value in ("1", "2"):
        store = Store(tmp_path / "q.sqlite3", metrics=Metrics())
        await store.set_meta("k", value)
        store.close()
    store = Store(tmp_path / "q.sqlite3", metrics=Metrics())
    assert await store.get_meta("k") == "2"
    assert await store.get_meta("absent", "default") == "default"
    store.close()


async def test_a_transaction_that_raises_changes_nothing(store: Store) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('x', '1')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(half)
    assert await store.get_meta("x") == ""


def test_a_database_of_somebody_else_or_of_the_future_is_left_alone(tmp_path: Path) -> None:
    foreign, future, text = tmp_path / "f.sqlite3", tmp_path / "n.sqlite3", tmp_path / "t.sqlite3"
    _write_foreign(foreign, "CREATE TABLE theirs (x)")
    assert _code(foreign) == "store.unavailable"
    _write_foreign(future, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION + 1}")
    assert _code(future) == "store.too_new"
    text.write_text("this is no database at all, but it is long enough to look at\n" * 20)
    assert _code(text) == "store.unavailable"


async def test_a_disk_without_room_for_the_index_of_the_log_is_a_full_disk(store: Store) -> None:
    def blow_up(connection: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    with pytest.raises(QedgeError) as error:
        await store.write(blow_up)
    assert error.value.code == "store.disk_full"


async def test_a_full_disk_refuses_new_work_lets_accepted_work_end_and_recovers(store: Store, tmp_path: Path) -> None:
    def blow_up(connection: sqlite3.Connection) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(QedgeError) as error:
        await store.write(blow_up)
    assert error.value.code == "store.disk_full"
    assert store.disk_full
    assert not (tmp_path / "q.reserve").exists()
    blocker = tmp_path / "q.reserve"
    blocker.mkdir()  # no room for the reserve, as it were
    with pytest.raises(QedgeError) as error:
        await store.set_meta("new", "1")
    assert error.value.code == "store.disk_full"
    await store.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('old', '1')"), accepted=True)
    assert store.disk_full
    blocker.rmdir()
    await store.set_meta("new", "1")
    assert not store.disk_full
    assert await store.get_meta("old") == "1"


@pytest.mark.parametrize("path", sorted(OLD.glob("v*.sqlite3")), ids=lambda path: path.name)
async def test_databases_of_earlier_versions_open_with_all_their_rows(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    store = Store(copy, metrics=Metrics())
    assert await store.get_meta("golden") == path.stem
    rows = await store.read(lambda connection: connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
    assert rows == 1
    store.close()


async def test_transactions_that_wait_together_are_committed_together_and_fail_alone(store: Store) -> None:
    def put(key: str) -> Callable[[sqlite3.Connection], str]:
        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT INTO meta VALUES (?, '1')", (key,))
            if key == "bad":
                raise ValueError(key)
            return key

        return work

    blocked = store.read(lambda _connection: time.sleep(0.05))
    found = await asyncio.gather(
        blocked, *(store.write(put(key)) for key in ("a", "bad", "b", "a")), return_exceptions=True
    )
    assert found[1] == "a"
    assert isinstance(found[2], ValueError)
    assert found[3] == "b"
    assert isinstance(found[4], QedgeError)  # the key is there already
    rows = await store.read(lambda connection: connection.execute("SELECT key FROM meta ORDER BY key").fetchall())
    assert [key for (key,) in rows if key in ("a", "b", "bad")] == ["a", "b"]


async def test_a_read_sees_what_was_written_before_it(store: Store) -> None:
    writes = [store.set_meta("turn", str(number)) for number in range(5)]
    results = await asyncio.gather(*writes, store.get_meta("turn"), store.set_meta("turn", "5"), store.get_meta("turn"))
    assert (results[5], results[7]) == ("4", "5")


async def test_patient_work_waits_for_all_other_work_but_not_for_ever(store: Store) -> None:
    order = list[str]()

    def note(name: str) -> Callable[[sqlite3.Connection], None]:
        return lambda _connection: order.append(name)

    async def keep_asking() -> None:
        for turn in range(60):
            await store.read(note(f"read {turn}"))

    opened, go_on = threading.Event(), threading.Event()
    held = asyncio.ensure_future(store.read(lambda _connection: opened.set() or go_on.wait(5)))
    await asyncio.to_thread(opened.wait, 5)
    patient = [asyncio.ensure_future(store.write(note(f"patient {turn}"), patient=True)) for turn in range(4)]
    await asyncio.sleep(0)
    others = asyncio.gather(*(keep_asking() for _ in range(2)), store.write(note("write")))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(held, others, *patient)
    places = [order.index(f"patient {turn}") for turn in range(4)]
    assert places == sorted(places)
    assert order.index("write") < places[0]
    assert order.index("read 0") < places[0]
    assert order.index("read 58") > places[0]


async def test_patient_work_is_done_before_the_database_is_closed(tmp_path: Path) -> None:
    store = Store(tmp_path / "q.sqlite3", metrics=Metrics())

    def put(key: str) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute("INSERT INTO meta VALUES (?, '1')", (key,))

    held = asyncio.ensure_future(store.read(lambda _connection: time.sleep(0.05)))
    writes = [asyncio.ensure_future(store.write(put(str(turn)), patient=True)) for turn in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(store.close)
    await asyncio.gather(held, *writes)
    again = Store(tmp_path / "q.sqlite3", metrics=Metrics())
    assert [await again.get_meta(str(turn)) for turn in range(20)] == ["1"] * 20
    again.close()
