"""The live page in a real browser."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from qedge.base.system_clock import SystemClock
from qedge.web.fake import FakeNode
from qedge.web.links.fake import fake_links
from qedge.web.peers.fake import fake_peers
from qedge.wire.events import NodeEvent
from qedge.wire.incidents import IncidentChange
from qedge.wire.jobs import JobSubmission
from qedge.wire.mesh import PeerState
from qedge.wire.node import DriverChange, GatewayView, LinkMeasure, LinkView
from tests.integration.browser import PROGRAM, Browser
from tests.integration.web_site import Site, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]

DASHBOARD = "!document.getElementById('dashboard').hidden"
GATE = "!document.getElementById('gate').hidden"
LIVE = "document.getElementById('feed').textContent === 'live'"
CTRL = 2
APART = """(nodes) => {
  const room = document.getElementById("map").getBoundingClientRect();
  const at = [...document.querySelectorAll("#map .body")].map((one) => one.getBoundingClientRect());
  const middle = at.map((one) => ({ x: one.x + one.width / 2, y: one.y + one.height / 2, r: one.width / 2 }));
  return [
    at.length === nodes,
    at.every((one) => one.left >= room.left && one.right <= room.right),
    at.every((one) => one.top >= room.top && one.bottom <= room.bottom),
    middle.every((a, i) => middle.every((b, j) => i >= j || Math.hypot(a.x - b.x, a.y - b.y) > a.r + b.r)),
  ];
}"""
PLACES = "JSON.stringify([...document.querySelectorAll('#map .node')].map(e => e.getAttribute('transform')))"
GATEWAY = GatewayView(
    devices=1003,
    states={"enrolled": 1000, "pending": 2, "quarantined": 1},
    sessions=998,
    connections=997,
    addresses=("127.0.0.1:1884",),
    tls="x25519mlkem768",
    through_broker=True,
    taken=100_000,
    denied=12,
    refused=512,
    incidents=1,
    policy_rules=7,
    policy_source="file",
    segments=("hall", "plant"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One browser for all tests, because its start costs more than all of them."""
    async with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The browser as if it had just been started; it must have asked no host but this one, and broken no policy."""
    chromium.console.clear()
    chromium.requested.clear()
    await chromium.look(1360, 900, dark=False)
    yield chromium
    own = ("http://127.0.0.1:", "about:", "chrome:")
    assert [url for url in chromium.requested if not url.startswith(own)] == []
    assert [line for line in chromium.console if "Content Security Policy" in line or "Refused" in line] == []
    await chromium.open("about:blank")


def mesh_node(nodes: int) -> FakeNode:
    """A node of a fleet of that size, with links to its first peers and devices."""
    clock = SystemClock()
    node = FakeNode(clock, os.urandom, instant=False)
    node.fleet.view = msgspec.structs.replace(node.fleet.view, standalone=False, fleet="lab")
    node.others = fake_peers(nodes - 1, clock.utc_ns())
    for link in fake_links(min(4, nodes - 1)):
        node.set_link(link)
    node.gateway = GATEWAY
    return node


async def link_of(site: Site) -> str:
    async with site.client() as node:
        return (await node.page_link()).url


async def open_page(browser: Browser, site: Site) -> None:
    await browser.open(await link_of(site))
    await browser.until(DASHBOARD)
    await browser.until(LIVE)


async def test_without_a_link_the_page_shows_only_how_to_get_one(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await browser.open(site.url + "/")
        await browser.until(GATE)
        text = await browser.value("document.body.innerText")
        assert "qedge open" in text
        assert "box-1" not in text
        assert browser.console == []


async def test_a_link_works_once_and_a_reload_keeps_the_session(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        link = await link_of(site)
        await browser.open(link)
        await browser.until(DASHBOARD)
        assert "link=" not in await browser.value("location.href")
        assert await browser.value("document.cookie") == ""
        await browser.reload()
        await browser.until(f"{DASHBOARD} && {LIVE}")
        await browser.value("sessionStorage.clear()")
        await browser.open("about:blank")
        await browser.open(link)
        await browser.until(f"{GATE} && document.body.innerText.includes('used before')")


async def test_everything_about_the_node_is_shown(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        text = await browser.value("document.body.innerText")
        for word in (
            "box-1",
            "mosquitto",
            "sim_qpu",
            "hwrng",
            "driver-card",
            "GiB free",
            "source rng · simulated",
            "lab",
        ):
            assert word in text, word
        assert browser.console == []


async def test_a_program_is_run_from_the_keyboard_and_its_histogram_appears(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        await browser.value("document.getElementById('program').focus()")
        await browser.press("Enter", 13, CTRL)
        await browser.until("document.querySelectorAll('.histogram li').length === 2")
        assert "500" in await browser.value("document.querySelector('.histogram').innerText")
        assert site.node.submissions[0].shots == 1000
        assert "cx q[0],q[1];" in site.node.submissions[0].program


async def test_a_refusal_is_shown_with_its_place(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        await browser.value("document.getElementById('program').value = 'bad'")
        await browser.value("document.getElementById('run-button').click()")
        await browser.until("!document.getElementById('submit-error').hidden")
        text = await browser.value("document.getElementById('submit-error').innerText")
        assert "line 1, column 1" in text
        assert "circuit.syntax" in text


async def test_what_others_do_appears_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, instant=False, status_interval_s=0.1) as site,
        site.client() as node,
    ):
        await open_page(browser, site)
        job = await node.submit(JobSubmission(program="x", shots=64))
        row = f"document.querySelector('#jobs [data-focus-key=\"{job.id}\"]')?.closest('tr').innerText"
        await browser.until(f"{row}.includes('queued')")
        await browser.value(f"document.querySelector('#jobs [data-focus-key=\"{job.id}\"]').click()")
        site.node.finish(job.id, {"01": 64})
        await browser.until(f"{row}.includes('done')")
        await browser.until("document.querySelector('.histogram')?.innerText.includes('100.0 %')")
        await node.change_driver("alice", DriverChange(settings={"eve_fraction": 1.0}))
        await node.measure_link("lab", LinkMeasure(sifted=1000))
        await browser.until("document.getElementById('links').innerText.includes('eavesdropper on')")
        await browser.until("document.querySelectorAll('#links .dot.bad').length === 1")
        site.node.entropy_healthy = False
        await browser.until("document.getElementById('entropy').innerText.includes('repetition count test')")


async def test_a_link_that_distils_shows_its_key_and_why_it_gives_none(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, status_interval_s=0.1) as site:
        running = LinkView(
            "fibre", "", "qkd", sifted=1 << 20, errors=5243, qber=0.005, peer="beta", state="running", blocks=12,
            blocks_dropped=1, key_bits=5_500_000, key_bit_s=2_750_000.0, efficiency=1.18, wire_bits_per_sifted=11.9,
        )  # fmt: skip
        site.node.set_link(running)
        await open_page(browser, site)
        panel = "document.querySelectorAll('#links .link')[1].innerText"
        for words in ("beta → qkd", "running", "2.75 Mbit/s", "0.50 %", "12 blocks gave 5.50 Mbit of key", "f 1.18"):
            await browser.until(f"{panel}.includes({words!r})")
        await browser.until("document.querySelectorAll('#links .link button').length === 1")
        for place, bits in (("waiting", 200 * 256), ("own", 100 * 256), ("given", 999 * 256)):
            site.metrics.set("qedge_qkd_key_bits", bits, ("fibre", place))
        await browser.until(f"{panel}.includes('stored: 300 keys of 256')")
        site.node.set_link(msgspec.structs.replace(running, state="quarantined", reason="too many errors", qber=0.25))
        for words in ("quarantined", "too many errors", "25.00 %"):
            await browser.until(f"{panel}.includes({words!r})")


async def test_random_bytes_and_a_link_window_are_a_click_away(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        await browser.value("document.getElementById('draw-button').click()")
        await browser.until("/^[0-9a-f]{64}$/.test(document.querySelector('#drawn .hex').textContent)")
        await browser.value("document.querySelector('#links button').click()")
        await browser.until("document.querySelectorAll('#links .dot.good').length === 1")


async def test_a_node_that_goes_away_is_told_and_a_restarted_one_asks_for_a_new_link(
    browser: Browser, tmp_path: Path
) -> None:
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        port = site.port
    await browser.until("document.getElementById('feed').textContent.includes('again')")
    await browser.until("document.getElementById('lost').innerText.includes('Next try in')")
    assert await browser.value("document.getElementById('node-name').textContent") == "box-1"  # what was known stays
    async with serving(tmp_path, port=port):
        await browser.value("document.getElementById('lost-now').click()")
        await browser.until(GATE)
        assert "qedge open" in await browser.value("document.body.innerText")
        assert await browser.value("document.getElementById('lost').hidden")


@pytest.mark.parametrize("nodes", [3, 50])
async def test_the_page_fits_every_screen_in_light_and_dark(browser: Browser, tmp_path: Path, nodes: int) -> None:
    async with serving(tmp_path, node=mesh_node(nodes)) as site, site.client() as node:
        for number in range(3):
            job = await node.submit(JobSubmission(program="x"))
            if number:
                site.node.finish(job.id)
        for width, dark in ((360, False), (390, True), (800, False), (1280, True)):
            await browser.look(width, 900, dark=dark)
            await open_page(browser, site)
            await browser.until("document.querySelector('#incidents summary')")
            outside = await browser.value(
                "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .hidden-label, .skip, "
                f".sections') && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.outerHTML.slice(0, 80))"
            )
            assert outside == []
            assert await browser.value("document.documentElement.scrollWidth") <= width
            ground = await browser.value("getComputedStyle(document.body).backgroundColor")
            level = sum(int(part) for part in ground[4:-1].split(","))
            assert (level < 200) is dark
            assert await browser.value(f"({APART})({nodes}).every(Boolean)")
        assert browser.console == []


async def test_every_control_has_a_name_and_a_visible_focus(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        await node.submit(JobSubmission(program="x"))
        await open_page(browser, site)
        nameless = await browser.value(
            "[...document.querySelectorAll('button, input, textarea, a')].filter(e => "
            "!(e.textContent || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert nameless == []
        walked = []
        for _ in range(4):
            await browser.press("Tab", 9)
            walked.append(await browser.value("document.activeElement.id || document.activeElement.textContent"))
        assert walked == ["Skip to content", "colours", "Mesh", "Jobs"]
        assert await browser.value("document.activeElement.matches(':focus-visible')")
        assert await browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


async def test_attached_devices_their_policy_and_their_incidents_are_shown(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, status_interval_s=0.3) as site:
        await open_page(browser, site)
        panel = "document.getElementById('devices').innerText"
        assert "qedge device invite" in await browser.value(panel)  # where there is nothing, what to do about it
        site.node.gateway = GATEWAY
        for words in (
            "1,003",
            "1,000 enrolled",
            "1 quarantined",
            "998",
            "127.0.0.1:1884, the broker",
            "post-quantum TLS",
        ):
            await browser.until(f"{panel}.includes({words!r})")
        for words in (
            "7 rules, a file of this node",
            "hall, plant",
            "1 open incident",
            "12 denied by policy, 500 refused",
        ):
            await browser.until(f"{panel}.includes({words!r})")
        await browser.until(f"{panel}.includes('pump-7')")
        assert "response: throttle, quarantine" in await browser.value(panel)
        site.node.gateway = msgspec.structs.replace(GATEWAY, taken=103_000, refused=600)
        await browser.until(f"/Taken\\s+[\\d,]*[1-9]/.test({panel})")
        await browser.value("document.querySelector('#incidents summary').focus()")
        await browser.press("Enter", 13)
        await browser.until(f"{panel}.includes('6000 messages within 5 s')")
        await site.node.security.acknowledge(site.node.security.view.id, IncidentChange(), "operator")
        await browser.until(f"{panel}.includes('seen by operator')")
        assert await browser.value("document.querySelector('#incidents details').open")
        assert await browser.value("document.activeElement.matches('#incidents summary')")
        assert browser.console == []


async def test_the_map_is_walked_with_arrow_keys_and_enter_shows_a_node(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, node=mesh_node(3)) as site:
        await open_page(browser, site)
        assert await browser.value("document.querySelectorAll('#map [tabindex=\"0\"]').length") == 1
        await browser.value("document.querySelector('#map [tabindex=\"0\"]').focus()")
        assert "box-1, this node, alive" in await browser.value("document.activeElement.getAttribute('aria-label')")
        await browser.press("ArrowDown", 40)
        name = (await browser.value("document.activeElement.getAttribute('aria-label')")).split(",")[0]
        assert name in ("box-2", "box-3")
        await browser.press("Enter", 13)
        panel = "document.querySelector('.node-card').innerText"
        await browser.until(f"{panel}.startsWith({name!r})")
        await browser.press("ArrowLeft", 37)
        await browser.press("ArrowRight", 39)
        assert "box-2" in await browser.value("document.activeElement.getAttribute('aria-label')")
        await browser.press("Enter", 13)
        for words in ("suite 1, X25519MLKEM768", "with quantum key", "13 days left", "fibre-2", "epoch 3", "qpu"):
            await browser.until(f"{panel}.includes({words!r})")
        await browser.value("[...document.querySelectorAll('.node-card button')].at(-1).click()")
        assert await browser.value("document.getElementById('where').value") == "box-2"
        await browser.press("Home", 36)
        assert browser.console == []


async def test_what_dies_changes_its_colour_and_nothing_moves(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, node=mesh_node(50), status_interval_s=0.3) as site:
        await open_page(browser, site)
        before = await browser.value(PLACES)
        site.node.others = tuple(
            msgspec.structs.replace(peer, state=PeerState.DEAD) if peer.node == "box-5" else peer
            for peer in site.node.others
        )
        await browser.until("document.querySelector('#map [aria-label^=\"box-5, dead\"]').dataset.tone === 'bad'")
        await browser.until("document.getElementById('tiles').innerText.includes('43 / 50')")
        assert await browser.value(PLACES) == before
        moved = await browser.value(
            "new Promise(done => new PerformanceObserver(list => done(list.getEntries().filter(e => !e.hadRecentInput)"
            ".reduce((sum, e) => sum + e.value, 0))).observe({type: 'layout-shift', buffered: true})"
            " || setTimeout(() => done(0), 300))"
        )
        assert moved < 0.02
        # a load that a peer tells of is drawn; one that it does not, is not
        told = "{ load: { slots: 4, free_slots: 1, queued: [1, 2, 3], draining: true } }"
        load = f"import('/page/node.js').then(m => JSON.stringify(m.loadOf({told})))"
        assert '"busy":0.75,"queued":6,"running":3' in await browser.value(load)
        assert await browser.value("import('/page/node.js').then(m => m.loadOf({}).queued)") == -1


async def test_colours_are_chosen_with_a_switch_and_stay(browser: Browser, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    async with serving(tmp_path) as site:
        await open_page(browser, site)
        light = await browser.value(ground)
        for _ in range(2):
            await browser.value("document.getElementById('colours').click()")
        dark = await browser.value(ground)
        assert dark != light
        assert "Colours: dark" in await browser.value("document.getElementById('colours').getAttribute('aria-label')")
        await browser.reload()
        await browser.until(LIVE)
        assert await browser.value(ground) == dark
        await browser.value("document.getElementById('colours').click()")
        assert await browser.value(ground) == light


async def test_jobs_are_filtered_by_state_and_events_are_told(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, node=mesh_node(3)) as site, site.client() as node:
        done, _queued = [await node.submit(JobSubmission(program="x", tags=("blue",))) for _ in range(2)]
        site.node.finish(done.id)
        await open_page(browser, site)
        await browser.value("document.querySelector('#job-filter [data-filter=\"done\"]').click()")
        assert await browser.value("document.querySelectorAll('#jobs tbody tr').length") == 1
        await browser.value("document.querySelector('#job-filter [data-filter=\"failed\"]').click()")
        assert "No job is failed now." in await browser.value("document.querySelector('#jobs tbody').innerText")
        result = "document.getElementById('result').innerText"
        for words in ("it accepted the job", "blue", "parse", "Estimate"):
            await browser.until(f"{result}.includes({words!r})")
        site.service.hub.tell(NodeEvent("peer.dead", 1, "error", "mesh", {"peer": "box-3"}))
        await browser.until("document.getElementById('events').innerText.includes('peer.dead')")
