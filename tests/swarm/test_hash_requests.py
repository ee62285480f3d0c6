"""Piece layers and leaves from peers that answer, lie, refuse, are slow or leave, on a clock of the test's own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from btfast.errors import RemoteError
from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.merkle import HASH, LEAF, Tree
from btfast.swarm import hash_requests as module
from btfast.swarm.bad_leaves import MOST, PATIENCE, BadLeaves, Judged
from btfast.swarm.blocks import NOBODY, BlockRun
from btfast.swarm.hash_requests import REST, SLOW, UNANSWERED, UNASKED, HashRequests
from btfast.swarm.piece_layers import PieceLayers

LEVEL = 2  # pieces of 64 KiB


def file_of(leaf_count: int, seed: int = 0) -> tuple[Tree, int]:
    length = leaf_count * LEAF - 5
    return Tree(random.Random(f"{leaf_count} {seed}").randbytes(leaf_count * HASH), 0, length), length


def right(tree: Tree, asked: HashRange) -> bytes:
    """What an honest peer answers."""
    uncles = tree.uncles(asked.base, asked.index, 1 << asked.steps)
    return tree.run(asked.base, asked.index, asked.length) + uncles[: asked.uncles * HASH]


Answer = Callable[[HashRange], bytes | None]
"""The hashes; b"" is a reject, None is silence."""


class Bench:
    """The layers of `trees` sought among peers, on a clock of its own."""

    def __init__(self, *files: tuple[Tree, int]) -> None:
        self.now = 1000.0
        self.trees = {tree.root: tree for tree, _ in files}
        self.lengths = {tree.root: length for tree, length in files}
        self.requests = HashRequests()
        self.layers = PieceLayers(self.requests, [(tree.root, length) for tree, length in files], LEVEL)
        self.leaves = BadLeaves(self.requests)
        self.answers: dict[int, Answer] = {}
        self.asked: list[tuple[int, HashRange]] = []
        self.banned: list[int] = []
        self.found: dict[bytes, bytes] = {}

    def add(self, number: int, answer: Answer) -> None:
        self.answers[number] = answer
        self.requests.peer_joined(number, self.now)

    def honest(self, asked: HashRange) -> bytes:
        return right(self.trees[asked.root], asked)

    def turn(self) -> bool:
        polled = self.requests.poll_requests(self.now)
        self.asked += polled
        for number, asked in polled:
            answer = self.answers[number](asked) if number in self.answers else None
            if answer == b"":
                self.requests.handle_reject(number, asked, self.now)
            elif answer is not None and self.requests.handle_hashes(number, asked, answer, self.now):
                assert self.layers.handle(asked, answer) or self.leaves.handle(asked, answer)
            self.banned += self.requests.poll_liars()
        self.found.update(self.layers.poll_whole())
        return bool(polled)

    def run(self, seconds: float = 0.0) -> None:
        """Until everything has come or nothing more is asked, letting so much time pass."""
        until = self.now + seconds
        while len(self.requests):
            if not self.turn():
                if self.now >= until:
                    break
                self.now += 1.0

    def complete(self) -> bool:
        counts = {root: merkle.layer_count(length, LEVEL) for root, length in self.lengths.items()}
        expected = {root: tree.run(LEVEL, 0, counts[root]) for root, tree in self.trees.items()}
        return self.found == expected and not len(self.layers) and not len(self.requests)


@pytest.mark.parametrize("leaf_count", [5, 8, 9, 2048, 2049, 20_000])
def test_one_peer_brings_the_layer(leaf_count: int) -> None:
    bench = Bench(file_of(leaf_count))
    bench.add(1, bench.honest)
    bench.run()
    assert bench.complete()
    assert bench.banned == []


def test_several_peers_share_the_runs_of_several_files() -> None:
    bench = Bench(file_of(9000), file_of(5), file_of(3000, 1))
    for number in range(3):
        bench.add(number, bench.honest)
    bench.run()
    assert bench.complete()
    asked = [wanted for _, wanted in bench.asked]
    assert len(asked) == len(set(asked)), "nothing was asked for twice"
    assert {number for number, _ in bench.asked} == {0, 1, 2}


def test_nobody_is_asked_for_everything_at_once_and_who_answers_is_asked_for_more() -> None:
    bench = Bench(file_of(200_000))
    bench.add(1, lambda asked: None)
    assert len(bench.requests.poll_requests(bench.now)) == module.FIRST_WINDOW
    assert bench.requests.poll_requests(bench.now) == []
    bench = Bench(file_of(200_000))
    bench.add(1, bench.honest)
    bench.run()
    assert bench.complete()
    assert max(len(peer.asked) for peer in bench.requests._peers.values()) <= module.LAST_WINDOW


@pytest.mark.parametrize("spoil", ["base", "uncle", "other place", "short", "long", "empty run", "cut"])
def test_a_liar_is_found_with_its_first_answer_and_the_honest_one_finishes(spoil: str) -> None:
    bench = Bench(file_of(9000))

    def lie(asked: HashRange) -> bytes:
        answer = bytearray(bench.honest(asked))
        if spoil == "base":
            answer[40] ^= 1
        elif spoil == "uncle":
            answer[-1] ^= 1
        elif spoil == "other place":
            return bench.honest(asked._replace(index=asked.index ^ asked.length))
        elif spoil == "short":
            del answer[-HASH:]
        elif spoil == "long":
            answer += bytes(HASH)
        elif spoil == "empty run":
            answer[: asked.length * HASH] = bytes(asked.length * HASH)
        else:
            del answer[-1]
        return bytes(answer)

    bench.add(1, lie)
    bench.add(2, bench.honest)
    bench.run()
    assert bench.complete()
    assert bench.banned == [1]
    assert len([number for number, _ in bench.asked if number == 1]) <= module.FIRST_WINDOW


def test_a_crowd_of_liars_cannot_keep_one_honest_peer_from_finishing() -> None:
    bench = Bench(file_of(9000))
    for number in range(50):
        bench.add(number, lambda asked: bytes((asked.length + asked.uncles) * HASH))
    bench.add(50, bench.honest)
    bench.run()
    assert bench.complete()
    assert 50 not in bench.banned
    assert len(bench.banned) == len(set(bench.banned))


def test_a_silent_peers_runs_are_asked_from_others_and_it_rests() -> None:
    bench = Bench(file_of(3000))
    bench.add(1, lambda asked: None)
    first = bench.requests.poll_requests(bench.now)
    assert len(first) == 2
    bench.now += UNANSWERED + 1
    bench.add(2, bench.honest)
    bench.run()
    assert bench.complete()
    assert bench.requests.unanswered == 1
    assert {number for number, _ in bench.asked} == {2}


def test_a_slow_peers_run_is_asked_from_another_as_well_and_both_answers_are_fine() -> None:
    bench = Bench(file_of(5))
    bench.add(1, lambda asked: None)
    ((_, wanted),) = bench.requests.poll_requests(bench.now)
    bench.add(2, lambda asked: None)
    assert bench.requests.poll_requests(bench.now) == []
    bench.now += SLOW + 0.1
    assert bench.requests.poll_requests(bench.now) == [(2, wanted)]
    answer = bench.honest(wanted)
    assert bench.requests.handle_hashes(2, wanted, answer, bench.now)
    assert bench.layers.handle(wanted, answer)
    assert not bench.requests.handle_hashes(1, wanted, answer, bench.now)
    assert list(bench.requests.poll_liars()) == []
    assert [root for root, _ in bench.layers.poll_whole()] == [wanted.root]


def test_who_is_always_too_late_is_no_flood() -> None:
    """It answers what it was asked for, hundreds of times, when another has already."""
    tree, _ = file_of(8 * (UNASKED + 50))
    requests = HashRequests()
    requests.peer_joined(1, 0.0)
    requests.peer_joined(2, 0.0)
    now = 0.0
    for piece in range(2 * UNASKED + 50):
        wanted = HashRange(tree.root, 0, 4 * piece, 4, 1)
        requests.add(wanted, tree.run(LEVEL, piece, 1))
        assert requests.poll_requests(now) == [(1, wanted)]
        now += SLOW + 0.1
        assert requests.poll_requests(now) == [(2, wanted)]
        assert requests.handle_hashes(2, wanted, right(tree, wanted), now)
        if piece % 2:
            requests.handle_reject(1, wanted, now)
        else:
            assert not requests.handle_hashes(1, wanted, right(tree, wanted), now)
    for _ in range(UNASKED):
        assert not requests.handle_hashes(1, wanted, right(tree, wanted), now)
    with pytest.raises(RemoteError):
        requests.handle_hashes(1, wanted, right(tree, wanted), now)


def test_who_gives_up_a_slow_run_is_replaced_and_no_more_than_a_few_are_asked_at_once() -> None:
    bench = Bench(file_of(5))
    requests = bench.requests
    for number in range(1, module.AT_ONCE + 3):
        bench.add(number, lambda asked: None)
    ((_, wanted),) = requests.poll_requests(bench.now)
    for number in range(2, module.AT_ONCE + 1):
        bench.now += SLOW + 0.1
        assert requests.poll_requests(bench.now) == [(number, wanted)]
    bench.now += SLOW + 0.1
    assert requests.poll_requests(bench.now) == []
    requests.peer_left(1)
    assert requests.poll_requests(bench.now) == [(module.AT_ONCE + 1, wanted)]
    requests.handle_reject(module.AT_ONCE + 1, wanted, bench.now)
    assert requests.poll_requests(bench.now) == [(module.AT_ONCE + 2, wanted)], "the others were slow before"


class Counted(HashRange):
    """Says how often it was looked up."""

    lookups = 0

    def __hash__(self) -> int:
        Counted.lookups += 1
        return super().__hash__()


def test_peers_with_nothing_to_do_do_not_look_through_all_that_is_open() -> None:
    """Each event polls: with 200 runs out at 100 peers, another 100 must not go through the 200 every time."""
    requests, now = HashRequests(), 1000.0
    for index in range(0, 200 * 512, 512):
        requests.add(Counted(bytes(32), LEVEL, index, 512, 0), bytes(32))
    for number in range(100):
        requests.peer_joined(number, now)
    assert len(requests.poll_requests(now)) == 200
    for number in range(1000, 1100):
        requests.peer_joined(number, now)
    Counted.lookups = 0
    assert requests.poll_requests(now + SLOW - 1) == []
    assert Counted.lookups < 500, "a few for each of the 100, not 20,000"


def test_a_reject_is_no_lie_and_the_same_peer_is_asked_again_later() -> None:
    bench = Bench(file_of(5))
    refuses = True
    bench.add(1, lambda asked: b"" if refuses else bench.honest(asked))
    bench.run(seconds=REST - 2)
    assert len(bench.asked) == 1
    assert not bench.complete()
    refuses = False
    bench.run(seconds=5)
    assert bench.complete()
    assert bench.banned == []


def test_what_one_rejects_another_is_asked_for() -> None:
    bench = Bench(file_of(9000))
    bench.add(1, lambda asked: b"" if asked.index else bench.honest(asked))
    bench.add(2, lambda asked: bench.honest(asked) if asked.index else b"")
    bench.run()
    assert bench.complete()


def test_a_peer_that_rejects_everything_is_left_alone() -> None:
    bench = Bench(file_of(2_000_000))
    bench.add(1, lambda asked: b"")
    bench.run(seconds=10)
    assert len(bench.asked) < 2 * module.REFUSALS


def test_a_peer_that_leaves_gives_its_runs_to_others() -> None:
    bench = Bench(file_of(9000))
    bench.add(1, lambda asked: None)
    bench.turn()
    bench.requests.peer_left(1)
    bench.requests.peer_left(1)
    bench.add(2, bench.honest)
    bench.run()
    assert bench.complete()


def test_who_floods_us_with_answers_that_nobody_asked_for_is_dropped() -> None:
    bench = Bench(file_of(5))
    tree = next(iter(bench.trees.values()))
    bench.add(1, lambda asked: None)
    unwanted = HashRange(tree.root, 0, 0, 2, 0)
    for _ in range(UNASKED):
        assert not bench.requests.handle_hashes(1, unwanted, bytes(64), bench.now)
    with pytest.raises(RemoteError, match="nobody asked"):
        bench.requests.handle_hashes(1, unwanted, bytes(64), bench.now)
    assert not bench.requests.handle_hashes(9, unwanted, bytes(64), bench.now), "nobody knows it"
    bench.requests.handle_reject(1, unwanted, bench.now)
    bench.requests.handle_reject(9, unwanted, bench.now)


def failed_piece(bench: Bench, tree: Tree, piece: int, bad: dict[int, int], senders: list[tuple[int, BlockRun]]) -> None:
    """The piece came with other bytes in the blocks `bad`."""
    leaves = bytearray(tree.run(0, piece << LEVEL, 1 << LEVEL))
    for block in bad:
        leaves[block * HASH] ^= 1
    anchor = tree.run(LEVEL, piece, 1)
    assert bench.leaves.failed(piece, tree.root, piece << LEVEL, LEVEL, anchor, bytes(leaves), senders, bench.now)


def test_the_sender_of_a_bad_block_is_named_by_the_leaves() -> None:
    tree, length = file_of(9000)
    bench = Bench((tree, length))
    senders = [(7, BlockRun(3, 0, 1)), (8, BlockRun(3, 1, 2)), (9, BlockRun(3, 3, 1)), (7, BlockRun(3, 2, 1))]
    failed_piece(bench, tree, 3, {1: 0}, senders)
    bench.add(1, bench.honest)
    bench.turn()
    assert bench.asked[0] == (1, HashRange(tree.root, 0, 12, 4, 1)), "before everything else that is asked for"
    assert bench.leaves.poll_judged() == [Judged(3, 0b0010, [8])]
    failed_piece(bench, tree, 3, {0: 0, 3: 0}, [(NOBODY, BlockRun(3, 0, 2)), (5, BlockRun(3, 2, 2))])
    assert bench.leaves.poll_judged() == [Judged(3, 0b1001, [5])], "what is known is not asked for again"
    bench.leaves.forget(3)
    assert len(bench.leaves) == 0


def test_files_that_are_alike_are_judged_by_the_same_leaves() -> None:
    tree, length = file_of(64)
    bench = Bench((tree, length))
    for index, block in ((5, 0), (25, 3)):
        leaves = bytearray(tree.run(0, 20, 4))
        leaves[block * HASH] ^= 1
        senders = [(index, BlockRun(index, 0, 4))]
        bench.leaves.failed(index, tree.root, 20, LEVEL, tree.run(LEVEL, 5, 1), bytes(leaves), senders, bench.now)
    bench.add(1, bench.honest)
    bench.run()
    assert sorted(bench.leaves.poll_judged()) == [Judged(5, 0b0001, [5]), Judged(25, 0b1000, [25])]
    bench.leaves.forget(5)
    assert len(bench.leaves) == 1
    bench.leaves.forget(25)
    assert bench.leaves._leaves == {}


def test_what_nobody_can_say_is_given_up_at_once_and_what_is_not_said_in_time_later() -> None:
    tree, _ = file_of(64)
    bench = Bench()
    bench.trees = {tree.root: tree}
    senders = [(8, BlockRun(0, 0, 4))]
    failed_piece(bench, tree, 0, {0: 0}, senders)
    bench.leaves.review(bench.now)
    assert bench.leaves.poll_judged() == [], "somebody may come who knows it"
    bench.add(1, lambda asked: b"")
    bench.add(2, lambda asked: b"")
    bench.run()
    bench.leaves.review(bench.now)
    assert bench.leaves.poll_judged() == [Judged(0, 0, [])]
    assert len(bench.requests) == len(bench.leaves) == 0
    bench.add(3, lambda asked: None)
    failed_piece(bench, tree, 1, {0: 0}, senders)
    bench.run(PATIENCE)
    bench.leaves.review(bench.now)
    assert bench.leaves.poll_judged() == []
    bench.leaves.review(bench.now + 1)
    assert bench.leaves.poll_judged() == [Judged(1, 0, [])]
    assert len(bench.requests) == len(bench.leaves) == 0


def test_who_lies_about_leaves_is_found_and_nobody_else_suffers() -> None:
    tree, length = file_of(64)
    bench = Bench((tree, length))
    failed_piece(bench, tree, 0, {0: 0}, [(8, BlockRun(0, 0, 2)), (9, BlockRun(0, 2, 2))])

    def blame(asked: HashRange) -> bytes:
        return bytes(len(bench.honest(asked)))

    bench.add(1, blame)
    bench.add(2, bench.honest)
    bench.run()
    assert bench.banned == [1]
    assert bench.leaves.poll_judged() == [Judged(0, 0b0001, [8])]


def test_the_short_piece_at_the_end_of_a_file_and_a_file_below_a_piece() -> None:
    for leaf_count, piece, level in ((9, 2, LEVEL), (3, 0, 2), (2, 0, 1)):
        tree, length = file_of(leaf_count)
        bench = Bench()
        bench.trees = {tree.root: tree}
        first = piece << LEVEL
        leaves = bytearray(tree.run(0, first, min(1 << LEVEL, leaf_count - first)))
        leaves[-1] ^= 1
        last = len(leaves) // HASH - 1
        senders = [(5, BlockRun(piece, 0, last)), (6, BlockRun(piece, last, 1))]
        bench.leaves.failed(piece, tree.root, first, level, tree.run(level, piece, 1), bytes(leaves), senders, bench.now)
        for wanted in list(bench.requests._open):
            assert wanted.fits(length)
        bench.add(1, bench.honest)
        bench.run()
        assert bench.leaves.poll_judged() == [Judged(piece, 1 << last, [6])]


def test_leaves_of_a_large_piece_come_in_several_runs() -> None:
    tree, _ = file_of(4096)
    bench = Bench()
    bench.trees = {tree.root: tree}
    leaves = bytearray(tree.run(0, 1024, 1024))
    leaves[700 * HASH] ^= 1
    senders = [(5, BlockRun(1, 0, 600)), (6, BlockRun(1, 600, 424))]
    bench.leaves.failed(1, tree.root, 1024, 10, tree.run(10, 1, 1), bytes(leaves), senders, bench.now)
    bench.add(1, bench.honest)
    bench.run()
    assert len(bench.asked) == 2
    assert bench.leaves.poll_judged() == [Judged(1, 1 << 700, [6])]


def test_failed_pieces_that_are_asked_about_are_bounded() -> None:
    tree, length = file_of(4 * (MOST + 10))
    bench = Bench((tree, length))
    before = len(bench.requests)
    for piece in range(MOST + 10):
        failed_piece(bench, tree, piece, {0: 0}, [(1, BlockRun(piece, 0, 2)), (2, BlockRun(piece, 2, 2))])
    assert len(bench.leaves) == MOST
    assert len(bench.requests) == before + MOST
    assert bench.leaves.poll_judged() == [Judged(piece, 0, []) for piece in range(10)]
    for piece in range(MOST + 10):
        bench.leaves.forget(piece)
    assert len(bench.requests) == before


def test_a_piece_of_one_block_asks_nobody() -> None:
    requests = HashRequests()
    leaves = BadLeaves(requests)
    assert not leaves.failed(0, b"r" * 32, 0, 0, b"a" * 32, bytes(32), [(1, BlockRun(0, 0, 1))], 0.0)
    assert len(requests) == len(leaves) == 0


def test_any_mixture_of_peers_ends_with_the_right_layers() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        bench = Bench(file_of(rng.randrange(5, 6000)), file_of(rng.randrange(5, 6000), 1))

        def moody(asked: HashRange, rng: random.Random = rng, bench: Bench = bench) -> bytes | None:
            return rng.choice([bench.honest(asked), bench.honest(asked), b"", None])

        def lying(asked: HashRange, rng: random.Random = rng, bench: Bench = bench) -> bytes | None:
            answer = bytearray(bench.honest(asked))
            answer[rng.randrange(len(answer))] ^= 1 << rng.randrange(8)
            return rng.choice([bytes(answer), None, b""])

        liars = {number for number in range(8) if rng.random() < 0.4} - {0}
        for number in range(8):
            bench.add(number, lying if number in liars else moody)
        bench.run(seconds=4000)
        assert bench.complete(), seed
        assert set(bench.banned) <= liars
