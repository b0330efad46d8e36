"""Stored keys in peer sessions: from the first block, which a restricted session brings into step, to rekeying."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.crypto.config import CryptoConfig
from qedge.daemon.adapters import PeerStores
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.model import SESSION_SAE, FinishedBlock
from qedge.qkd.keys.service import KeyStore
from qedge.qkd.keys.session_keys import READY_KEYS, SessionKeys
from qedge.qkd.keys.vault import Vault
from qedge.store.schema import KEY_SCHEMA
from qedge.store.store import Store
from qedge.wire.mesh import PeerState
from tests.unit.mesh.mesh_site import NoKeys, Site, SiteNode, until
from tests.unit.qkd.keys.key_site import PROVENANCE
from tests.unit.qkd.keys.store_site import running


class Question(msgspec.Struct, frozen=True, tag_field="type", tag="question/1"):
    text: str


class KeyedSite:
    """Nodes `a` and `b` with sessions, key stores and the keys of one for the other."""

    def __init__(self, folder: Path) -> None:
        self.site = Site()
        self.folder = folder
        self.nodes: list[SiteNode] = []
        self.keys: list[KeyStore] = []
        self.stores: list[Store] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.next = 0

    async def start(self, policy: str, period_s: float) -> None:
        """Start both."""
        for name in "ab":
            metrics, peers = Metrics(), PeerStores()
            store = Store(self.folder / f"{name}.sqlite3", metrics=metrics, schema=KEY_SCHEMA)
            self.stores.append(store)
            keys = KeyStore(
                name,
                store,
                Vault(os.urandom(32)),
                KeyStoreConfig(),
                peers,
                boot_id="boot",
                clock=SystemClock(),
                metrics=metrics,
                random_bytes=os.urandom,
            )
            session_keys = SessionKeys(keys, lambda _peer: policy)
            node = await self.site.node(name, keys=cast(NoKeys, session_keys), key_period_s=period_s)
            peers.attach(node.sessions)
            node.sessions.serve(Question, _echo)
            self.nodes.append(node)
            self.keys.append(keys)
            self.tasks.append(asyncio.create_task(keys.run(lambda: None)))
            self.tasks.append(asyncio.create_task(session_keys.run(lambda: None)))
        a, b = self.nodes
        await until(lambda: a.state("b") is PeerState.ALIVE and b.state("a") is PeerState.ALIVE)

    async def grow(self) -> None:
        """Give both ends a block each way."""
        for keys, peer in zip(self.keys, "ba", strict=True):
            await keys.open_link("ab", peer)
        for _ in range(2):
            block = FinishedBlock("ab", self.next, os.urandom(4096), PROVENANCE)
            self.next += 1
            for keys in self.keys:
                await keys.add_block(block)

    async def close(self) -> None:
        """End all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.site.close()
        for store in self.stores:
            store.close()


async def _echo(_peer: str, question: Question) -> Question:
    return question


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[KeyedSite]:
    """A site that is closed at the end."""
    made = KeyedSite(tmp_path)
    yield made
    await made.close()


async def test_a_required_key_comes_over_a_restricted_session_and_is_then_renewed_with_fresh_ones(
    keyed: KeyedSite,
) -> None:
    await keyed.start("require", 0.5)
    a, b = keyed.nodes
    with pytest.raises(QedgeError) as error:
        await a.sessions.call("b", Question("too soon"), Question, deadline_s=10)
    assert error.value.code == "session.extra_key_missing"
    await keyed.grow()
    await until(lambda: a.sessions.view("b").extra_key and b.sessions.view("a").extra_key, 20)
    assert (await b.sessions.call("a", Question("now"), Question, deadline_s=10)).text == "now"
    first = a.sessions.view("b").opened_utc_ns
    await until(lambda: a.sessions.view("b").opened_utc_ns > first, 20)
    assert a.sessions.view("b").extra_key
    assert (await a.sessions.call("b", Question("still"), Question, deadline_s=10)).text == "still"
    usage = {(each.consumer, each.role): each for each in await keyed.keys[1].usage()}
    assert usage[SESSION_SAE, "slave"].keys >= 2
    for keys in keyed.keys:
        assert keys.links()[0].account.balanced


async def test_keys_lie_ready_at_both_ends_and_each_is_taken_once(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.grow()
        a, b = (SessionKeys(site[name], lambda _peer: "prefer") for name in "ab")
        assert await b.provide("a") == 0  # the lower name does it
        assert await a.provide("b") == READY_KEYS
        assert await a.provide("b") == 0
        offered = await a.offered("b")
        assert len(offered) == READY_KEYS
        assert set(await b.offered("a")) == set(offered)
        assert await a.take("b", offered[0]) == await b.take("a", offered[0])
        for side, peer in ((a, "b"), (b, "a")):
            with pytest.raises(QedgeError) as error:
                await side.take(peer, offered[0])
            assert error.value.code == "session.extra_key_missing"
        await a.declined("b", offered[1:3])
        assert await a.offered("b") == offered[3:]
        assert await a.provide("b") == 3


def test_policy_may_differ_for_some_peers() -> None:
    config = CryptoConfig(extra_key="off", extra_key_peers=("b=require", "c=prefer"))
    assert [config.extra_key_policy(peer) for peer in "abc"] == ["off", "require", "prefer"]


async def test_where_policy_wants_no_keys_none_are_cut_or_offered(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.grow()
        off = SessionKeys(site["a"], lambda _peer: "off")
        assert await off.provide("b") == 0
        assert await off.offered("b") == ()
        assert not off.required("b")
        assert SessionKeys(site["a"], lambda _peer: "require").required("b")
