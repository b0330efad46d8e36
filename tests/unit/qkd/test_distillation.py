"""Two engines back to back: equal keys or none, whatever the channel does, and accounts that hold to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from qedge.qkd.authentication.stock import BLOCK_BITS, stock_bytes
from qedge.qkd.distillation.alice import AliceEngine
from qedge.qkd.distillation.bob import BobEngine
from qedge.qkd.distillation.model import FRAME_BITS, BlockCounts, EngineSettings, Epsilons, Length, LinkTerms, Send
from qedge.qkd.distillation.ports import Bytes, CodeInfo
from qedge.wire.qkd import (
    Accepted,
    AliceTerms,
    BobTerms,
    Committed,
    Detections,
    FromAlice,
    FromBob,
    LinkFrame,
    Verified,
)
from tests.unit.qkd.two_ends import MS, ROW_BYTES, SYNDROME_BYTES, Channel, ToyKernels, TwoEnds

SETTINGS = EngineSettings("l", block_limit_ns=20_000 * MS, refill_blocks=4, max_steps=3)


def message(frame: bytes) -> msgspec.Struct | None:
    """Return what a frame carries."""
    body = msgspec.msgpack.decode(frame, type=LinkFrame).body
    return msgspec.msgpack.decode(body, type=FromAlice | FromBob) if body else None


def test_a_quiet_channel_gives_equal_keys_block_by_block() -> None:
    ends = TwoEnds(frames=2, settings=SETTINGS)
    ends.run(4)
    assert ends.check() == [0, 1, 2, 3]
    for alice, bob in zip(ends.reports["alice"], ends.reports["bob"], strict=True):
        assert alice.outcome == "key"
        assert replace_burnt(alice) == replace_burnt(bob)
        assert alice.leaked_bits == 2 * 8 * SYNDROME_BYTES + 128 + 2 + 3 * 19
        assert 0.015 < alice.qber < 0.025


def replace_burnt(report: msgspec.Struct) -> msgspec.Struct:
    """Leave out how far the other blocks are at this end, and what Bob alone saw."""
    return msgspec.structs.replace(report, burnt_bits=0, gain=-1.0)


def test_authentication_is_paid_for_out_of_the_blocks_and_accounted_to_the_bit() -> None:
    ends = TwoEnds(frames=2, settings=SETTINGS)
    ends.run(12)
    ends.check()
    refills = [report for report in ends.reports["bob"] if report.reserved_bits]
    assert len(refills) >= 2
    assert all(report.reserved_bits == 8 * stock_bytes(4) for report in refills)
    assert ends.alice.stocks.is_distilled
    assert ends.bob.stocks.is_distilled
    assert ends.alice.stocks.burnt_bits == ends.bob.stocks.burnt_bits
    assert ends.bob.stocks.burnt_bits % BLOCK_BITS == 0
    for report in ends.reports["bob"]:
        assert report.key_bits == 8 * len(ends.keys["bob"][report.block].bits)


def test_the_leak_of_rows_and_of_frames_given_up_is_exact() -> None:
    ends = TwoEnds(frames=4, settings=replace(SETTINGS, max_steps=2))
    hopeless = {1, 4, 5}  # frame 1 of the block; then, of (1) and of (1) again, the only one that is asked for
    ends.kernels["bob"].fails = lambda place, _rows: place in hopeless
    ends.run(1)
    report = ends.reports["bob"][0]
    assert report.dropped_frames == 1
    assert report.leaked_bits == 3 * 8 * SYNDROME_BYTES + FRAME_BITS + 128 + 3 * 4 + 3 * 20
    assert replace_burnt(report) == replace_burnt(ends.reports["alice"][0])
    helped = {1}
    ends = TwoEnds(frames=4, settings=replace(SETTINGS, max_steps=2))
    ends.kernels["bob"].fails = lambda place, _rows: place in helped
    ends.run(1)
    report = ends.reports["bob"][0]
    assert report.dropped_frames == 0
    assert report.leaked_bits == 4 * 8 * SYNDROME_BYTES + 8 * ROW_BYTES + 128 + 2 * 4 + 3 * 20
    assert ends.check()


def test_a_frame_decoded_to_something_wrong_is_found_and_given_up() -> None:
    ends = TwoEnds(frames=4, settings=SETTINGS)
    ends.kernels["bob"].lies = lambda place, _rows: place == 2
    ends.run(1)
    report = ends.reports["bob"][0]
    assert report.outcome == "key"
    assert report.dropped_frames == 1
    assert report.leaked_bits == 3 * (8 * SYNDROME_BYTES + 128) + FRAME_BITS + 2 * 128 + 3 * 4 + 3 * 20
    assert ends.check()


def test_a_block_of_which_most_frames_fail_yields_nothing() -> None:
    ends = TwoEnds(frames=2, settings=SETTINGS)
    ends.kernels["bob"].fails = lambda place, _rows: place < 8
    ends.run(2)
    assert ends.reports["bob"][0].outcome == "dropped"
    assert 0 not in ends.keys["alice"]
    assert ends.check()


@pytest.mark.parametrize("seed", range(4))
def test_a_channel_that_loses_doubles_and_disorders_costs_time_alone(seed: int) -> None:
    channel = Channel(lost=0.1, doubled=0.1, jitter_ms=40)
    ends = TwoEnds(seed=seed, channel=channel)
    ends.run(3)
    assert len(ends.check()) >= 3
    assert {report.outcome for report in ends.reports["bob"]} == {"key"}


@pytest.mark.parametrize("seed", range(4))
def test_a_channel_that_bends_messages_never_makes_unequal_keys_and_is_overcome(seed: int) -> None:
    channel = Channel(bent=0.05, lost=0.03, doubled=0.03, jitter_ms=10)
    ends = TwoEnds(seed=seed, channel=channel)
    ends.run(5, limit_s=60)
    ends.check()
    channel.bent = 0.0
    before = len(ends.keys["alice"])
    ends.run(len(ends.reports["bob"]) + 4, limit_s=120)
    assert not ends.halted
    assert len(ends.keys["alice"]) > before
    ends.check()


def _flip(value: object) -> object:
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bool) or not isinstance(value, (int, float, tuple)):
        return value
    if isinstance(value, tuple):
        return value[:-1] if value else (0,)
    return value + 1 if isinstance(value, int) else min(1.0, value / 2)


def _decodes(_kernels: ToyKernels) -> None:
    """All frames are decoded at once."""


def _needs_rows(kernels: ToyKernels) -> None:
    """No frame is decoded without further rows."""
    kernels.fails = lambda _place, rows: rows == 0


def _decodes_one_wrong(kernels: ToyKernels) -> None:
    """One frame of each block of four comes out wrong, so that all are checked and that one is disclosed."""
    kernels.lies = lambda place, _rows: place % 4 == 2


def _gives_up(kernels: ToyKernels) -> None:
    """No frame is ever decoded."""
    kernels.fails = lambda _place, _rows: True


KINDS: dict[str, tuple[int, Callable[[ToyKernels], None]]] = {
    **dict.fromkeys(("BobTerms", "Detections", "Announced", "CodeChosen", "Corrected", "Verified"), (1, _decodes)),
    **dict.fromkeys(("AliceTerms", "BlockFull", "Sifted", "Syndromes", "Check", "Seed"), (1, _decodes)),
    **dict.fromkeys(("Accepted", "Sealed", "Committed"), (1, _decodes)),
    **dict.fromkeys(("RowsWanted", "Rows"), (2, _needs_rows)),
    **dict.fromkeys(("FrameChecksWanted", "FrameChecks", "Disclosed"), (4, _decodes_one_wrong)),
    "Dropped": (2, _gives_up),
}
"""Every message of an engine, and the frames and the decoder that make both ends say it in each block."""


def test_all_messages_are_tampered_with() -> None:
    assert {each.__name__ for each in (FromAlice | FromBob).__args__} == KINDS.keys()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_man_in_the_middle_who_changes_any_field_of_any_message_gets_no_unequal_key(kind: str) -> None:
    fields: list[str] = []
    changed = 0

    def alter(_to: str, frame: bytes) -> bytes | None:
        nonlocal changed
        whole = msgspec.msgpack.decode(frame, type=LinkFrame)
        said = message(frame)
        if said is None or type(said).__name__ != kind or not fields:
            return frame
        field = fields.pop()
        value = _flip(getattr(said, field))
        changed += 1
        bent = msgspec.msgpack.encode(msgspec.structs.replace(said, **{field: value}))
        return msgspec.msgpack.encode(msgspec.structs.replace(whole, body=bent))

    frames, hurt = KINDS[kind]
    ends = TwoEnds(frames=frames, channel=Channel(alter=alter), settings=SETTINGS)
    ends.chunk = 170_000 * frames  # one announcement a block
    hurt(ends.kernels["bob"])
    cls = next(each for each in (FromAlice | FromBob).__args__ if each.__name__ == kind)
    for field in cls.__struct_fields__:
        fields[:] = [field]
        ends.run(len(ends.reports["bob"]) + 1, limit_s=80)
        ends.check()
        if ends.halted:  # the operators' business, where the terms of the ends differ
            assert kind.endswith("Terms")
            break
    assert changed >= 1 or kind.endswith("Terms")


def test_a_forged_announcement_costs_the_block_and_its_pads_and_alice_tells_nothing() -> None:
    def alter(to: str, frame: bytes) -> bytes | None:
        said = message(frame)
        if type(said).__name__ != "Announced" or ends.reports["alice"]:
            return frame
        whole = msgspec.msgpack.decode(frame, type=LinkFrame)
        bent = msgspec.msgpack.encode(msgspec.structs.replace(said, tag=bytes(16)))
        return msgspec.msgpack.encode(msgspec.structs.replace(whole, body=bent))

    ends = TwoEnds(channel=Channel(alter=alter), settings=SETTINGS)
    ends.run(4)
    first = ends.reports["alice"][0]
    assert first.reason == "authentication failed"
    assert first.burnt_bits >= BLOCK_BITS
    said = [type(message(frame)).__name__ for to, frame in ends.wire if to == "bob"]
    forged = said.index("BlockFull")
    assert "Sifted" not in said[: said.index("AliceTerms", forged)]
    assert ends.check()
    assert 0 not in ends.keys["alice"]


def test_a_lost_last_message_is_made_up_for_after_both_began_anew() -> None:
    def alter(_to: str, frame: bytes) -> bytes | None:
        return None if type(message(frame)).__name__ == "Committed" and blocked else frame

    blocked = True
    ends = TwoEnds(channel=Channel(alter=alter), settings=SETTINGS)
    ends.run(1, limit_s=8)
    assert ends.keys["alice"]
    assert not ends.keys["bob"]
    blocked = False
    ends.run(len(ends.keys["alice"]) + 1, limit_s=80)
    assert set(ends.keys["alice"]) == set(ends.keys["bob"])
    ends.check()


def test_an_eavesdropper_on_every_pulse_gets_no_key_made_and_is_seen_within_one_block() -> None:
    ends = TwoEnds(error=0.25, settings=SETTINGS)
    ends.run(2)
    first = ends.reports["bob"][0]
    assert (first.outcome, first.reason) == ("dropped", "the error rate is too high")
    assert first.quarantined
    assert not ends.keys["alice"]
    assert not ends.keys["bob"]
    before = len(ends.reports["bob"])
    ends.light.error = 0.02
    ends.run(before + 10)
    outcomes = [report.outcome for report in ends.reports["bob"]][before:]
    assert outcomes.count("quarantined") == SETTINGS.clean_blocks
    assert outcomes[-1] == "key"
    assert not ends.bob.is_quarantined
    ends.check()


def test_more_clicks_than_were_learned_are_seen_within_one_block_and_no_key_is_made_of_them() -> None:
    ends = TwoEnds(frames=2, settings=replace(SETTINGS, clean_blocks=2, refill_blocks=14))
    ends.kernels["bob"].judges = True
    reports = ends.reports["bob"]
    ends.run(3)
    quiet = len(reports)
    assert {report.outcome for report in reports} == {"key"}
    assert [each.blocks for each in ends.learned] == list(range(1, quiet + 1))
    ends.light.gap //= 2  # whoever makes the detectors click as she likes, and makes no error
    ends.run(quiet + 6)
    loud = reports[quiet + 1 :]  # light of before may be part of the first block
    assert len(loud) >= 3
    assert all(report.reason.startswith("gain: ") and report.quarantined for report in loud)
    assert max(report.qber for report in loud) < 0.03
    ends.light.gap *= 2
    ends.run(len(reports) + 6)
    after = [report.outcome for report in reports[quiet + 1 + len(loud) :]]
    assert after[-1] == "key"
    assert after.count("quarantined") == 2
    assert ends.check()


def test_an_eavesdropper_on_a_tenth_of_the_pulses_shortens_the_key() -> None:
    quiet, watched = TwoEnds(frames=2, error=0.01), TwoEnds(frames=2, error=0.035)
    quiet.run(1)
    watched.run(1)
    assert 0 < watched.reports["bob"][0].key_bits < quiet.reports["bob"][0].key_bits


def test_ends_with_different_secrets_make_no_key() -> None:
    ends = TwoEnds(settings=SETTINGS)
    other = TwoEnds(settings=SETTINGS, secret=bytes(32))
    ends.bob.stocks = other.bob.stocks
    ends.run(2, limit_s=20)
    assert not ends.keys["alice"]
    assert not ends.keys["bob"]
    assert "authentication failed" in {report.reason for report in ends.reports["alice"]}


def test_a_link_whose_pads_are_gone_stops_and_says_so() -> None:
    ends = TwoEnds(settings=replace(SETTINGS, refill_blocks=4))
    ends.bob.stocks = TwoEnds(secret=bytes(32)).bob.stocks
    ends.run(10_000, limit_s=400)
    assert ends.halted
    assert not ends.keys["alice"]


def test_ends_that_are_told_different_epsilons_do_not_begin() -> None:
    ends = TwoEnds(settings=SETTINGS)
    ends.bob.settings = replace(ends.bob.settings, epsilons=replace(SETTINGS.epsilons, secrecy=1e-6))
    ends.run(1)
    assert ends.halted == ["the ends are configured for different epsilons"]


@pytest.mark.parametrize("is_alice", [True, False])
def test_a_number_of_the_other_end_that_leaves_none_for_later_blocks_is_not_believed(is_alice: bool) -> None:
    ends = TwoEnds(settings=SETTINGS)
    engine: AliceEngine | BobEngine = ends.alice if is_alice else ends.bob
    terms = [message(each.frame) for each in (ends.bob if is_alice else ends.alice).start(0) if isinstance(each, Send)]
    assert isinstance(terms[0], AliceTerms | BobTerms)
    engine.start(0)
    before = engine._next_block
    body = msgspec.msgpack.encode(msgspec.structs.replace(terms[0], next_block=2**63 - 1))
    engine.take(msgspec.msgpack.encode(LinkFrame(0, 0, 0, body)), 1)
    assert engine._next_block == before
    assert not engine.halted


def test_a_bob_who_announces_without_end_and_finishes_nothing_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.qkd.distillation.alice.MAX_OPEN", 3)
    ends = TwoEnds(settings=replace(SETTINGS, block_bits=FRAME_BITS))
    alice, kernels, light = ends.alice, ToyKernels({}), ends.light
    alice.start(0)
    bodies = [msgspec.msgpack.encode(BobTerms("l", 0.9, 0))]
    most = 0
    for number in range(40):
        alice.take(msgspec.msgpack.encode(LinkFrame(0, number, 0, bodies[-1])), number)
        first, end, slots, bases, _ = light.detect(40_000)
        coded = kernels.encode_slots(slots, first), np.packbits(bases, bitorder="little").tobytes()
        bodies.append(msgspec.msgpack.encode(Detections(first, end, len(slots), *coded)))
        most = max(most, alice.open_blocks)
    assert most == 4
    assert alice.open_blocks == 0, "it began anew"


def parities(frame: Bytes) -> bytes:
    """A linear syndrome: the XOR of groups of six bytes."""
    return bytes(np.bitwise_xor.reduce(frame[: 6 * SYNDROME_BYTES].reshape(6, -1), axis=0))


def test_other_bits_with_the_same_transcript_give_another_key() -> None:
    """Whoever holds all that was said, and the settings of one end, cannot tell which bits the ends have.

    Two runs with the same dice and, in the key basis, different bits of the same syndrome: but for hashes of the bits
    (booked as leaked) and tags, everything said is the same, and half the bits of the keys differ.
    """
    runs = []
    for change in (False, True):
        ends = TwoEnds(frames=1, settings=SETTINGS)
        for kernels in ends.kernels.values():

            def syndrome(code: CodeInfo, frame: Bytes, known: dict[bytes, Bytes] = kernels.known) -> bytes:
                known[parities(frame)[:32]] = frame.copy()
                return parities(frame)

            kernels.syndrome = syndrome  # type: ignore[method-assign] # - a toy of a toy
        if change:
            codeword = np.zeros(16_384, np.uint8)
            codeword[:SYNDROME_BYTES] = codeword[SYNDROME_BYTES : 2 * SYNDROME_BYTES] = 0xA5
            flip_key_bits(ends, np.unpackbits(codeword, bitorder="little"))
        ends.run(1)
        ends.check()
        said = [
            (to, msgspec.structs.replace(said, tag=bytes(16)) if hasattr(said, "tag") else said)
            for to, frame in ends.wire
            if (said := message(frame)) is not None
        ]
        runs.append((said, ends.keys["alice"][0].bits, ends.keys["bob"][0].bits))
    (first_said, first_key, _), (second_said, second_key, _) = runs
    upto = [type(said).__name__ for _, said in first_said].index("Committed")
    assert first_said[:upto] == second_said[:upto]
    assert len(first_key) == len(second_key)
    differ = sum((a ^ b).bit_count() for a, b in zip(first_key, second_key, strict=True))
    assert 0.4 < differ / (8 * len(first_key)) < 0.6


def flip_key_bits(ends: TwoEnds, codeword: Bytes) -> None:
    """XOR `codeword` into the key bits of the first block at both ends."""
    detect, place = ends.light.detect, 0

    def detect_flipped(number: int):  # type: ignore[no-untyped-def] # - as the light gives it
        nonlocal place
        first, end, slots, bases, bits = detect(number)
        sent = ends.light.sent[first][1]
        in_key = np.flatnonzero((sent[0] == 0) & (bases == 0))[: max(0, len(codeword) - place)]
        flips = codeword[place : place + len(in_key)]
        place += len(in_key)
        sent[1][in_key] ^= flips
        bits[in_key] ^= flips
        return first, end, slots, bases, bits

    ends.light.detect = detect_flipped  # type: ignore[method-assign] # - the same light with other bits


def test_neither_raw_bits_nor_key_stand_in_anything_that_is_said() -> None:
    ends = TwoEnds(settings=SETTINGS)
    ends.run(2)
    said = b"".join(frame for _, frame in ends.wire)
    for block in ends.keys["alice"].values():
        for place in range(0, len(block.bits) - 8, 101):
            assert block.bits[place : place + 8] not in said


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_man_in_the_middle_does_at_random_no_two_keys_differ(seed: int) -> None:
    dice = random.Random(seed)
    seen: list[bytes] = []

    def alter(_to: str, frame: bytes) -> bytes | None:
        seen.append(frame)
        said = message(frame)
        if dice.random() < 0.02:
            return dice.choice(seen)  # of another time, or meant for the other end
        if said is None or dice.random() > 0.02:
            return frame
        whole = msgspec.msgpack.decode(frame, type=LinkFrame)
        field = dice.choice(said.__struct_fields__)
        bent = msgspec.msgpack.encode(msgspec.structs.replace(said, **{field: _flip(getattr(said, field))}))
        return msgspec.msgpack.encode(msgspec.structs.replace(whole, body=bent))

    channel = Channel(alter=alter, lost=0.02, doubled=0.02, jitter_ms=dice.choice((0, 5, 50)))
    ends = TwoEnds(seed=seed, channel=channel, settings=SETTINGS)
    ends.run(12, limit_s=100)
    ends.check()
    if not ends.halted:
        channel.alter = lambda _to, frame: frame
        before = len(ends.keys["alice"])
        ends.run(len(ends.reports["bob"]) + 6, limit_s=150)
        ends.check()
        assert len(ends.keys["alice"]) > before or ends.halted


@pytest.mark.parametrize("kind", [AliceTerms, BobTerms])
def test_no_key_is_made_under_terms_that_were_altered_on_their_way(kind: type[AliceTerms | BobTerms]) -> None:
    def alter(_to: str, frame: bytes) -> bytes | None:
        said = message(frame)
        if not isinstance(said, kind):
            return frame
        whole = msgspec.msgpack.decode(frame, type=LinkFrame)
        value = getattr(said, field)
        value = tuple(each * 0.9 for each in value) if isinstance(value, tuple) else _flip(value)
        bent = msgspec.msgpack.encode(msgspec.structs.replace(said, **{field: value}))
        return msgspec.msgpack.encode(msgspec.structs.replace(whole, body=bent))

    for field in kind.__struct_fields__:
        ends = TwoEnds(channel=Channel(alter=alter), settings=SETTINGS)
        ends.chunk, ends.pace_ns = 170_000, 500 * MS
        ends.run(1, limit_s=1.2)
        assert ends.keys == {"alice": {}, "bob": {}}, field


def test_bob_hands_over_no_block_on_a_receipt_that_alice_did_not_give() -> None:
    accepted: list[int] = []
    forged: list[int] = []

    def alter(to: str, frame: bytes) -> bytes | None:
        said = message(frame)
        if isinstance(said, Accepted):
            accepted.append(said.block)
            return None
        if to == "alice" or said is None or isinstance(said, AliceTerms) or not accepted or forged:
            return frame
        forged.append(accepted[0])
        body = msgspec.msgpack.encode(Committed(accepted[0], bytes(8)))
        return msgspec.msgpack.encode(msgspec.structs.replace(msgspec.msgpack.decode(frame, type=LinkFrame), body=body))

    ends = TwoEnds(channel=Channel(alter=alter), settings=SETTINGS)
    ends.run(3, limit_s=6)
    assert forged
    assert ends.keys == {"alice": {}, "bob": {}}


class Generous(ToyKernels):
    """Reckons 8000 bits more than there are."""

    def key_length(self, terms: LinkTerms, counts: BlockCounts, leaked_bits: int, epsilons: Epsilons) -> Length:
        made = super().key_length(terms, counts, leaked_bits, epsilons)
        return Length(made.bits + 8000, made.why_zero)


@pytest.mark.parametrize("generous", ["alice", "bob"])
def test_the_end_that_reckons_less_key_has_its_way(generous: str) -> None:
    right = TwoEnds(settings=SETTINGS)
    right.run(1)
    ends = TwoEnds(settings=SETTINGS)
    ends.engine(generous).kernels = Generous(ends.kernels[generous].known)
    ends.run(1)
    assert ends.check() == [0]
    assert len(ends.keys["bob"][0].bits) == len(right.keys["bob"][0].bits)


def test_bob_takes_no_seed_for_more_key_than_he_reckons() -> None:
    def alter(_to: str, frame: bytes) -> bytes | None:
        said = message(frame)
        if not isinstance(said, Verified):
            return frame
        body = msgspec.msgpack.encode(msgspec.structs.replace(said, bits=said.bits + 8000))
        return msgspec.msgpack.encode(msgspec.structs.replace(msgspec.msgpack.decode(frame, type=LinkFrame), body=body))

    ends = TwoEnds(channel=Channel(alter=alter), settings=SETTINGS)
    ends.alice.kernels = Generous(ends.kernels["alice"].known)
    ends.run(1, limit_s=6)
    assert "wrong length" in ends.reports["bob"][0].reason
    assert ends.keys == {"alice": {}, "bob": {}}
