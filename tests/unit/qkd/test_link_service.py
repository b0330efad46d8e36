import asyncio
import random
from array import array

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.qkd.config import LinkConfig
from qedge.qkd.fake import FakeFibre, FakeTransceiver
from qedge.qkd.service import LinkService
from qedge.workers.model import Msg


class Site:
    """A link over a fake fibre."""

    def __init__(self) -> None:
        self.fibre = FakeFibre(random.Random(3).random)
        self.alice, self.bob = FakeTransceiver("a", self.fibre), FakeTransceiver("b", self.fibre)
        self.clock, self.metrics = ManualClock(), Metrics()
        config = LinkConfig(alice="a", bob="b")
        self.link = LinkService("lab", config, self.alice, self.bob, clock=self.clock, metrics=self.metrics)


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_quiet_link_is_clear(site: Site) -> None:
    view = await site.link.measure(5_000)
    assert view.sifted >= 5_000
    assert 0.005 < view.qber < 0.02
    assert view.verdict == "clear"
    assert view.gain == pytest.approx(0.1)
    assert site.link.view() == view
    assert site.metrics.value("qedge_qkd_qber_ratio", ("lab",)) == view.qber
    assert site.metrics.value("qedge_qkd_detections_total", ("lab",)) >= 10_000


async def test_an_eavesdropper_is_suspected(site: Site) -> None:
    site.fibre.error_z = site.fibre.error_x = 0.25
    assert (await site.link.measure(5_000)).verdict == "eavesdropper suspected"


async def test_a_small_window_grows_until_its_verdict_is_certain(site: Site) -> None:
    site.fibre.block, site.fibre.bias = 200, 0.8
    view = await site.link.measure(60)
    assert view.sifted > 200
    assert view.verdict == "clear"


async def test_a_dark_fibre_has_no_light(site: Site) -> None:
    site.fibre.dark = True
    view = await site.link.measure(1_000)
    assert (view.verdict, view.sifted, view.qber) == ("no light", 0, -1.0)


async def test_clicks_that_know_nothing_of_alice_are_no_light(site: Site) -> None:
    site.fibre.error_z = site.fibre.error_x = 0.5
    assert (await site.link.measure(5_000)).verdict == "no light"


async def test_alice_may_forget_what_was_measured(site: Site) -> None:
    await site.link.measure(1_000)
    assert site.fibre.released == site.fibre.next_slot


async def test_the_error_of_a_driver_reaches_the_caller_and_the_next_window_works(site: Site) -> None:
    site.fibre.failure = QedgeError("driver.retriable", "unplugged")
    with pytest.raises(QedgeError, match="unplugged"):
        await site.link.measure(1_000)
    assert (await site.link.measure(1_000)).verdict == "clear"


async def test_an_end_that_is_down_is_named(site: Site) -> None:
    site.bob.is_up = False
    with pytest.raises(QedgeError, match="The end b of the link lab is not up") as caught:
        await site.link.measure(1_000)
    assert caught.value.code == "worker.unavailable"


async def test_two_at_once_take_their_windows_one_after_the_other(site: Site) -> None:
    views = await asyncio.gather(site.link.measure(1_000), site.link.measure(1_000))
    assert [view.verdict for view in views] == ["clear", "clear"]


@pytest.mark.parametrize("sifted", [0, -1, 10**9])
async def test_an_impossible_number_of_bits_is_refused(site: Site, sifted: int) -> None:
    with pytest.raises(QedgeError) as refused:
        await site.link.measure(sifted)
    assert refused.value.code == "job.bad_request"


def _block(**changes: Msg) -> dict[str, Msg]:
    slots = array("Q", [5, 6, 9]).tobytes()
    whole: dict[str, Msg] = {
        "first_slot": 5,
        "num_slots": 5,
        "slots": slots,
        "bases": b"\0\1\0",
        "bits": b"\1\1\0",
        "double_clicks": 1,
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    "answer",
    [
        "block",
        [],
        _block(first_slot=-1),
        _block(num_slots=2**64),
        _block(num_slots=True),
        _block(num_slots=4),
        _block(first_slot=6),
        _block(slots=array("Q", [5, 9, 6]).tobytes()),
        _block(slots=array("Q", [5, 5, 6]).tobytes()),
        _block(slots=b""),
        _block(bases=b"\0\1"),
        _block(bits=b"\0\1\2"),
        _block(bases=None),
        _block(double_clicks=4),
        _block(slots=bytes(8 * 70_000), bases=bytes(70_000), bits=bytes(70_000)),
    ],
)
async def test_an_impossible_block_is_a_lie(site: Site, answer: Msg) -> None:
    site.bob.answers["read_block"] = answer
    with pytest.raises(QedgeError) as caught:
        await site.link.measure(1_000)
    assert caught.value.code == "driver.lied"


@pytest.mark.parametrize(
    "answer", [None, {"bases": b"", "bits": b"", "intensities": b""}, {"bases": b"\2" * 4096, "bits": bytes(4096)}]
)
async def test_impossible_preparations_are_a_lie(site: Site, answer: Msg) -> None:
    site.alice.answers["preparations"] = answer
    with pytest.raises(QedgeError) as caught:
        await site.link.measure(1_000)
    assert caught.value.code == "driver.lied"


async def test_a_measurement_ends_at_its_deadline(site: Site) -> None:
    class Slow(FakeTransceiver):
        async def call(self, method: str, args: object, *, deadline_s: float) -> Msg:
            site.clock.advance_s(deadline_s)
            return None

    config = LinkConfig(alice="a", bob="b", measure_deadline_s=10)
    link = LinkService("lab", config, site.alice, Slow("b", site.fibre), clock=site.clock, metrics=site.metrics)
    assert (await link.measure(1_000)).verdict == "no light"
