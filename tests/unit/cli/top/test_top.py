from __future__ import annotations

import random

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.cli.terminal import Terminal
from qedge.cli.top.look import Look, look_of
from qedge.cli.top.top import keys_in
from qedge.cli.top.view import PANELS, Screen, crop, plain_lines, rooms_of, screen_lines
from qedge.web.fake import FakeNode
from qedge.web.links.fake import fake_links
from qedge.web.peers.fake import fake_peers
from qedge.wire.jobs import JobSubmission
from qedge.wire.load import LoadView
from qedge.wire.node import GatewayView


async def look(nodes: int, before: Look | None = None, taken: int = 0) -> Look:
    """A look at a fake node of a fleet of that size."""
    clock = ManualClock()
    node = FakeNode(clock, random.Random(7).randbytes, instant=False)
    node.others = fake_peers(nodes - 1, clock.utc_ns())
    for link in fake_links(min(4, nodes - 1)):
        node.set_link(link)
    node.gateway = GatewayView(states={"enrolled": 9}, sessions=8, taken=taken)
    for number in range(5):
        job = await node.submit(JobSubmission(program="x", tags=(f"tag-{number}",)), "test")
        if number < 2:
            node.start(job.id, "box-2")
    clock.advance_s(2.0 if before else 0.0)
    clock.step_utc_s(0.0005)
    incidents = (await node.security.incidents(5, only_open=True)).incidents
    jobs = (await node.jobs(50)).jobs
    return look_of(node.status(), node.peers(), jobs, stored_bits={"fibre-2": 5e6}, incidents=incidents, before=before)


@pytest.mark.parametrize("nodes", [1, 3, 50])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 4), (40, 10), (132, 40), (250, 70)])
async def test_every_size_of_terminal_is_filled_exactly(nodes: int, width: int, height: int) -> None:
    seen = await look(nodes)
    for color in (False, True):
        for focus in range(len(PANELS)):
            lines = screen_lines(seen, Screen(focus), Terminal(color=color, width=width), height, "")
            assert len(lines) == height
            assert max(len(crop(_bare(line), 10_000)) for line in lines) <= width


def _bare(line: str) -> str:
    first, *rest = line.split("\x1b[")
    return first + "".join(part.partition("m")[2] for part in rest)


async def test_a_screen_of_80_by_24_shows_all_five_panels() -> None:
    text = "\n".join(screen_lines(await look(3), Screen(), Terminal(), 24, ""))
    for words in ("box-1 *", "direct +key", "2 running, 3 queued", "box-2 qpu", "lab", "9 enrolled", "pump-7"):
        assert words in text
    links = "\n".join(screen_lines(await look(3), Screen(PANELS.index("links")), Terminal(), 24, ""))
    for words in ("fibre-2", "1.38 Mbit/s", "1.00%", "5 Mbit", "fibre-3"):
        assert words in links


async def test_jobs_given_to_a_peer_and_the_progress_of_running_ones_are_shown() -> None:
    seen = await look(3)
    assert [(row.node, row.ours) for row in seen.nodes] == [("box-1", 0), ("box-2", 2), ("box-3", 0)]
    assert [job.state.value for job in seen.jobs] == ["running", "running", "queued", "queued", "queued"]
    assert " 50%" in "\n".join(plain_lines(seen, Terminal()))  # 0.5 ms of the estimated 1 ms


async def test_rates_are_those_between_two_looks_and_never_negative() -> None:
    first = await look(2)
    assert first.taken_per_s == -1
    assert (await look(2, first, taken=3000)).taken_per_s == 1500
    again = await look(2, msgspec.structs.replace(first, devices=GatewayView(taken=10**9)))
    assert again.taken_per_s == 0  # the node was started anew


async def test_nodes_that_need_a_look_come_first() -> None:
    names = [(row.node, row.state) for row in (await look(50)).nodes]
    assert names[:6] == [("box-1", "alive"), *((f"box-{n}", "dead") for n in (11, 22, 33, 44)), ("box-17", "suspect")]
    assert names[6:8] == [("box-2", "alive"), ("box-3", "alive")]
    assert names[-1] == ("box-29", "left")


async def test_a_daemon_that_is_away_is_told_and_what_was_known_stays() -> None:
    lines = screen_lines(await look(3), Screen(), Terminal(), 24, "the daemon has not answered for 3 s")
    assert "the daemon has not answered for 3 s" in lines[0]
    assert any("box-2" in line for line in lines)
    assert screen_lines(None, Screen(), Terminal(), 5, "")[0] == "asking the daemon …"


def test_keys_choose_panels_scroll_and_end() -> None:
    screen = Screen()
    for key in keys_in("\t\x1b[C\x1b[Z"):
        assert screen.press(key)
    assert PANELS[screen.focus] == "jobs"
    for key in keys_in("\x1bOB\x1b[Bj\x1b[A"):
        assert screen.press(key)
    assert screen.scrolled == {"jobs": 2}
    assert screen.press("5")
    assert PANELS[screen.focus] == "incidents"
    assert not screen.press("q")
    assert keys_in("\x1b") == ["\x1b"]


async def test_scrolling_ends_at_the_last_row() -> None:
    screen = Screen(scrolled={"nodes": 9999})
    lines = screen_lines(await look(50), screen, Terminal(), 24, "")
    assert any("box-29" in line for line in lines)
    assert screen.scrolled["nodes"] < 50


def test_the_panel_in_front_gets_most_room_and_none_more_than_it_wants() -> None:
    rng = random.Random(11)
    for _ in range(500):
        wants = [rng.randrange(2, 60) for _ in range(5)]
        focus, room = rng.randrange(-1, 5), rng.randrange(1, 90)
        rooms = rooms_of(wants, focus, room)
        assert sum(rooms) <= room
        assert sum(rooms) == min(room, sum(wants))
        assert all(0 <= size <= want for size, want in zip(rooms, wants, strict=True))


def test_a_line_is_cut_without_leaving_a_colour_on() -> None:
    line = Terminal(color=True).bad("broken") + " and " + Terminal(color=True).good("well")
    for width in range(20):
        cut = crop(line, width)
        assert len(_bare(cut)) == min(width, 15)
        assert cut.endswith("\x1b[0m")


async def test_a_load_that_a_peer_tells_of_is_shown_and_none_is_made_up() -> None:
    clock = ManualClock()
    node = FakeNode(clock, random.Random(7).randbytes)
    silent, told = fake_peers(2, clock.utc_ns())
    load = LoadView(slots=4, free_slots=1, queued=(1, 2, 3), draining=True)
    node.others = (msgspec.structs.replace(silent, load=None), msgspec.structs.replace(told, load=load))
    seen = look_of(node.status(), node.peers(), (), stored_bits={}, incidents=(), before=None)
    rows = {row.node: row for row in seen.nodes}
    one, other = rows[silent.node], rows[told.node]
    assert (one.busy_ratio, one.running, one.queued) == (-1.0, -1, -1)
    assert (other.busy_ratio, other.running, other.queued) == (0.75, 3, 6)
