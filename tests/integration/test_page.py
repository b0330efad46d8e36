"""The live page in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.wire.incidents import IncidentChange
from qedge.wire.jobs import JobSubmission
from qedge.wire.node import DriverChange, GatewayView, LinkMeasure, LinkView
from tests.integration.browser import PROGRAM, Browser
from tests.integration.web_site import Site, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]

DASHBOARD = "!document.getElementById('dashboard').hidden"
GATE = "!document.getElementById('gate').hidden"
LIVE = "document.getElementById('feed').textContent === 'live'"
CTRL = 2
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


@asynccontextmanager
async def browsing(tmp_path: Path, site: Site) -> AsyncIterator[Browser]:
    async with Browser(tmp_path / "browser") as browser:
        await browser.look(1360, 900, dark=False)
        own = (site.url, "about:", "chrome:")
        yield browser
        assert [url for url in browser.requested if not url.startswith(own)] == []


async def link_of(site: Site) -> str:
    async with site.client() as node:
        return (await node.page_link()).url


async def open_page(browser: Browser, site: Site) -> None:
    await browser.open(await link_of(site))
    await browser.until(DASHBOARD)
    await browser.until(LIVE)


async def test_without_a_link_the_page_shows_only_how_to_get_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
        await browser.open(site.url + "/")
        await browser.until(GATE)
        text = await browser.value("document.body.innerText")
        assert "qedge open" in text
        assert "box-1" not in text
        assert browser.console == []


async def test_a_link_works_once_and_a_reload_keeps_the_session(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
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


async def test_everything_about_the_node_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
        await open_page(browser, site)
        text = await browser.value("document.body.innerText")
        for word in ("box-1", "mosquitto", "sim_qpu", "hwrng", "driver-card", "GiB free", "simulated quantum", "lab"):
            assert word in text, word
        assert browser.console == []


async def test_a_program_is_run_from_the_keyboard_and_its_histogram_appears(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
        await open_page(browser, site)
        await browser.value("document.getElementById('program').focus()")
        await browser.press("Enter", 13, CTRL)
        await browser.until("document.querySelectorAll('.histogram li').length === 2")
        assert "500" in await browser.value("document.querySelector('.histogram').innerText")
        assert site.node.submissions[0].shots == 1000
        assert "cx q[0],q[1];" in site.node.submissions[0].program


async def test_a_refusal_is_shown_with_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
        await open_page(browser, site)
        await browser.value("document.getElementById('program').value = 'bad'")
        await browser.value("document.getElementById('run-button').click()")
        await browser.until("!document.getElementById('submit-error').hidden")
        text = await browser.value("document.getElementById('submit-error').innerText")
        assert "line 1, column 1" in text
        assert "circuit.syntax" in text


async def test_what_others_do_appears_without_a_reload(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, instant=False, status_interval_s=0.1) as site,
        browsing(tmp_path, site) as browser,
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


async def test_a_link_that_distils_shows_its_key_and_why_it_gives_none(tmp_path: Path) -> None:
    async with serving(tmp_path, status_interval_s=0.1) as site, browsing(tmp_path, site) as browser:
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
        site.node.set_link(msgspec.structs.replace(running, state="quarantined", reason="too many errors", qber=0.25))
        for words in ("quarantined", "too many errors", "25.00 %"):
            await browser.until(f"{panel}.includes({words!r})")


async def test_random_bytes_and_a_link_window_are_a_click_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser:
        await open_page(browser, site)
        await browser.value("document.getElementById('draw-button').click()")
        await browser.until("/^[0-9a-f]{64}$/.test(document.querySelector('#drawn .hex').textContent)")
        await browser.value("document.querySelector('#links button').click()")
        await browser.until("document.querySelectorAll('#links .dot.good').length === 1")


async def test_a_node_that_goes_away_is_told_and_a_restarted_one_asks_for_a_new_link(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(tmp_path) as site:
            browser = await stack.enter_async_context(browsing(tmp_path, site))
            await open_page(browser, site)
            port = site.port
        await browser.until("document.getElementById('feed').textContent.includes('again')")
        async with serving(tmp_path, port=port):
            await browser.until(GATE)
            assert "qedge open" in await browser.value("document.body.innerText")


@pytest.mark.parametrize("width", [360, 390, 800, 1360])
@pytest.mark.parametrize("dark", [False, True])
async def test_the_page_fits_every_screen(tmp_path: Path, width: int, dark: bool) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser, site.client() as node:
        for _ in range(3):
            await node.submit(JobSubmission(program="x"))
        await node.measure_link("lab", LinkMeasure(sifted=1000))
        site.node.gateway = GATEWAY
        await browser.look(width, 900, dark=dark)
        await open_page(browser, site)
        await browser.until("document.querySelector('#incidents summary')")
        outside = await browser.value(
            "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .hidden-label, .skip') && "
            f"e.getBoundingClientRect().right > {width} + 0.5).map(e => e.outerHTML.slice(0, 80))"
        )
        assert outside == []
        assert await browser.value("document.documentElement.scrollWidth") <= width
        ground = await browser.value("getComputedStyle(document.body).backgroundColor")
        level = sum(int(part) for part in ground[4:-1].split(","))
        assert (level < 200) is dark
        await browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 20_000


async def test_every_control_has_a_name_and_a_visible_focus(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, browsing(tmp_path, site) as browser, site.client() as node:
        await node.submit(JobSubmission(program="x"))
        await open_page(browser, site)
        nameless = await browser.value(
            "[...document.querySelectorAll('button, input, textarea, a')].filter(e => "
            "!(e.innerText || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert nameless == []
        for _ in range(4):
            await browser.press("Tab", 9)
        assert await browser.value("document.activeElement.matches(':focus-visible')")
        assert await browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


async def test_attached_devices_their_policy_and_their_incidents_are_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, status_interval_s=0.3) as site, browsing(tmp_path, site) as browser:
        await open_page(browser, site)
        assert await browser.value("document.getElementById('gateway-card').hidden")
        site.node.gateway = GATEWAY
        panel = "document.getElementById('gateway-card').innerText"
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
