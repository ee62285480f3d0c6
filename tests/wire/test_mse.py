"""The MSE handshake: each side against the other, cut anywhere, against an independent reading of the protocol, and lies."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._rc4 import Rc4
from btfast.errors import RemoteError
from btfast.wire import mse
from btfast.wire.handshake import encode_handshake
from btfast.wire.mse import PLAIN, RC4, Initiator, P, Responder, Secured, skey_hash

INFO_HASH, OTHER = b"h" * 20, b"o" * 20
FIRST = encode_handshake(INFO_HASH, b"p" * 20)
BOTH = PLAIN | RC4


def dice(seed: int, *, padding: int | None = None) -> Callable[[int], bytes]:
    """Random bytes; `padding`: how long each padding is to be."""
    rng = random.Random(seed)
    return lambda count: padding.to_bytes(2, "big") if count == 2 and padding is not None else rng.randbytes(count)


def find(hashed: bytes) -> bytes | None:
    return {skey_hash(info_hash): info_hash for info_hash in (OTHER, INFO_HASH)}.get(hashed)


def initiator(seed: int = 1, provide: int = BOTH, padding: int | None = None) -> Initiator:
    return Initiator(INFO_HASH, FIRST, dice(seed, padding=padding), provide)


def responder(seed: int = 2, accept: int = BOTH, padding: int | None = None) -> Responder:
    return Responder(find, dice(seed, padding=padding), accept)


def shake(a: Initiator, b: Responder, cut: Callable[[bytes], Iterator[bytes]], late: bytes = b"") -> None:
    """Both to the end; what each says is cut by `cut`."""
    to_b, to_a = a.begin(), b""
    while to_a or to_b:
        for part in cut(to_b):
            if b.secured is None:
                to_a += b.handle_bytes(part)
        to_b = b""
        for part in cut(to_a):
            assert a.secured is None
            to_b += a.handle_bytes(part)
        to_a = b""


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def in_bytes(data: bytes) -> Iterator[bytes]:
    for byte in data:
        yield bytes([byte])


@pytest.mark.parametrize("padding", [0, 1, 511, 512, None])
@pytest.mark.parametrize("cut", [whole, in_bytes])
@pytest.mark.parametrize(
    ("provide", "accept", "kind"), [(BOTH, BOTH, PLAIN), (BOTH, RC4, RC4), (RC4, BOTH, RC4), (PLAIN, BOTH, PLAIN)]
)
def test_the_two_sides_agree(
    padding: int | None, cut: Callable[[bytes], Iterator[bytes]], provide: int, accept: int, kind: int
) -> None:
    a, b = initiator(provide=provide, padding=padding), responder(accept=accept, padding=padding)
    shake(a, b, cut)
    assert a.secured is not None
    assert b.secured is not None
    assert a.secured.info_hash == b.secured.info_hash == INFO_HASH
    assert (a.secured.rest, b.secured.rest) == (b"", FIRST)
    if kind == PLAIN:
        assert a.secured[1:3] == b.secured[1:3] == (None, None)
        return
    for sender, receiver in ((a.secured, b.secured), (b.secured, a.secured)):
        assert sender.outgoing is not None
        assert receiver.incoming is not None
        wire = sender.outgoing.crypt(b"what follows")
        assert wire != b"what follows"
        assert receiver.incoming.crypt(wire) == b"what follows"


class Peer:
    """The protocol read once more, by somebody in no hurry: both sides' messages from the numbers."""

    def __init__(self, seed: int = 9) -> None:
        self.private = int.from_bytes(random.Random(seed).randbytes(20), "big")
        self.key = pow(2, self.private, P).to_bytes(96, "big")

    def agree(self, theirs: bytes, info_hash: bytes = INFO_HASH) -> None:
        self.s = pow(int.from_bytes(theirs, "big"), self.private, P).to_bytes(96, "big")
        self.a = Rc4(hashlib.sha1(b"keyA" + self.s + info_hash).digest(), drop=1024)
        self.b = Rc4(hashlib.sha1(b"keyB" + self.s + info_hash).digest(), drop=1024)

    def third(
        self, *, provide: int = BOTH, pad: int = 0, first: bytes = FIRST, vc: bytes = bytes(8),
        info_hash: bytes = INFO_HASH, initial: int | None = None,
    ) -> bytes:  # fmt: skip
        """Message 3."""
        named = hashlib.sha1(b"req2" + info_hash).digest()
        hidden = bytes(x ^ y for x, y in zip(named, hashlib.sha1(b"req3" + self.s).digest(), strict=True))
        length = len(first) if initial is None else initial
        text = (
            vc + provide.to_bytes(4, "big") + pad.to_bytes(2, "big") + b"\7" * pad + length.to_bytes(2, "big") + first
        )
        return hashlib.sha1(b"req1" + self.s).digest() + hidden + self.a.crypt(text)

    def fourth(self, *, select: int = RC4, pad: int = 0) -> bytes:
        """Message 4."""
        return self.b.crypt(bytes(8) + select.to_bytes(4, "big") + pad.to_bytes(2, "big") + b"\7" * pad)


def to_responder(b: Responder, cut_at: int | None, said: bytes) -> bytes:
    parts = [said] if cut_at is None else [said[:cut_at], said[cut_at:]]
    return b"".join(b.handle_bytes(part) for part in parts if part)


def plain(secured: Secured | None) -> bytes:
    assert secured is not None
    return secured.rest


@pytest.mark.parametrize("provide", [PLAIN, RC4])
def test_a_responder_takes_any_cut_with_more_behind(provide: int) -> None:
    """Padding everywhere, a handshake in front of more, split at each place."""
    lengths = {96, 97}
    for pad_a, pad_c in ((0, 0), (3, 5), (512, 512)):
        for cut_at in [None, *range(0, 96 + pad_a + 40 + 16 + pad_c + 68 + 20, 7 if pad_a > 3 else 1)]:
            peer, b = Peer(), responder(padding=4)
            reply = to_responder(b, cut_at if cut_at is None or cut_at < 96 + pad_a else None, peer.key + bytes(pad_a))
            lengths.add(len(reply))
            assert len(reply) == 100
            peer.agree(reply[:96])
            said = peer.third(provide=provide, pad=pad_c)
            more = peer.a.crypt(b"more to come") if provide == RC4 else b"more to come"
            at = None if cut_at is None else max(0, cut_at - 96 - pad_a)
            late = b""
            if at is not None and at >= len(said):
                reply = to_responder(b, None, said)
                assert plain(b.secured) == FIRST
                late = more
            else:
                reply = to_responder(b, at, said + more)
            assert peer.b.crypt(reply) == bytes(8) + provide.to_bytes(4, "big") + bytes(2)
            assert b.secured is not None
            if not late:
                assert b.secured.rest == FIRST + b"more to come"
            elif provide == RC4:
                assert b.secured.incoming is not None
                assert b.secured.incoming.crypt(late) == b"more to come"


@pytest.mark.parametrize("select", [PLAIN, RC4])
def test_an_initiator_takes_any_cut_with_more_behind(select: int) -> None:
    for pad_b, pad_d in ((0, 0), (3, 5), (512, 512)):
        length = 96 + pad_b + 14 + pad_d + 12
        for cut_at in range(0, length, 7 if pad_b > 3 else 1):
            peer, a = Peer(), initiator()
            begun = a.begin()
            peer.agree(begun[:96])
            more = b"more to come"
            said = peer.key + bytes(pad_b) + peer.fourth(select=select, pad=pad_d)
            said += peer.b.crypt(more) if select == RC4 else more
            reply = a.handle_bytes(said[:cut_at])
            rest = b""
            if a.secured is None:
                reply += a.handle_bytes(said[cut_at:])
            else:
                rest = said[cut_at:]
            assert peer.a.crypt(reply[40:]) == bytes(11) + b"\3" + bytes(2) + b"\0\x44" + FIRST
            assert a.secured is not None
            if rest:
                rest = rest if a.secured.incoming is None else a.secured.incoming.crypt(rest)
            assert a.secured.rest + rest == more


def fails(side: Initiator | Responder, said: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        side.handle_bytes(said)
    message = str(caught.value)
    assert message.startswith("encryption: ")
    assert "\n" not in message
    assert side.secured is None
    return message


WEAK = [0, 1, P - 1, P, P + 1, (1 << 768) - 1]


@pytest.mark.parametrize("key", WEAK)
def test_keys_that_give_the_secret_away_are_refused(key: int) -> None:
    a = initiator()
    a.begin()
    for side in (a, responder()):
        assert "a key that gives everything away" in fails(side, key.to_bytes(96, "big"))


def after_key(b: Responder) -> Peer:
    peer = Peer()
    peer.agree(b.handle_bytes(peer.key)[:96])
    return peer


def test_noise_instead_of_proof_is_read_for_so_long_and_no_longer() -> None:
    for extra in (0, 1):
        b = responder()
        after_key(b)
        noise = random.Random(3).randbytes(512 + 19 + extra)
        if extra:
            assert "proof" in fails(b, noise)
        else:
            assert b.handle_bytes(noise) == b""
            assert b.step.startswith("proof")
    a = initiator()
    a.begin()
    assert a.handle_bytes(Peer().key)
    assert "the answer to our key did not come" in fails(a, random.Random(3).randbytes(520))


def test_what_is_not_here_is_not_found() -> None:
    b = responder()
    peer = after_key(b)
    assert "not here" in fails(b, peer.third(info_hash=b"x" * 20))


def test_each_torrent_of_many_is_found() -> None:
    b = responder()
    peer = Peer()
    peer.agree(b.handle_bytes(peer.key)[:96], OTHER)
    b.handle_bytes(peer.third(info_hash=OTHER))
    assert b.secured is not None
    assert b.secured.info_hash == OTHER


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ({"vc": b"12345678"}, "cannot be decrypted"),
        ({"provide": 0}, "no kind"),
        ({"provide": 4}, "no kind"),
        ({"pad": 513}, "more padding"),
        ({"pad": 65535, "first": b""}, "more padding"),
        ({"initial": 1025}, "more initial data"),
        ({"initial": 65535}, "more initial data"),
    ],
)
def test_lies_of_an_initiator(lie: dict[str, int], complaint: str) -> None:
    b = responder()
    peer = after_key(b)
    assert complaint in fails(b, peer.third(**lie))  # type: ignore[arg-type]


def test_an_offer_that_is_not_accepted_is_refused() -> None:
    b = responder(accept=RC4)
    peer = after_key(b)
    assert "no kind" in fails(b, peer.third(provide=PLAIN))


def test_an_offer_of_unknown_kinds_beside_a_known_one_is_taken() -> None:
    b = responder()
    peer = after_key(b)
    reply = b.handle_bytes(peer.third(provide=0xFFFFFFFE))
    assert peer.b.crypt(reply)[8:12] == b"\0\0\0\2"


@pytest.mark.parametrize(
    ("provide", "lie", "complaint"),
    [
        (BOTH, {"select": 0}, "was not offered"),
        (BOTH, {"select": 3}, "was not offered"),
        (BOTH, {"select": 4}, "was not offered"),
        (RC4, {"select": PLAIN}, "was not offered"),
        (PLAIN, {"select": RC4}, "was not offered"),
        (BOTH, {"pad": 513}, "more padding"),
    ],
)
def test_lies_of_a_responder(provide: int, lie: dict[str, int], complaint: str) -> None:
    a, peer = initiator(provide=provide), Peer()
    peer.agree(a.begin()[:96])
    assert complaint in fails(a, peer.key + peer.fourth(**lie))


def test_an_empty_first_word_is_legal() -> None:
    b = responder()
    peer = after_key(b)
    b.handle_bytes(peer.third(first=b"", provide=RC4))
    assert plain(b.secured) == b""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=700), max_size=6), st.booleans(), st.integers(0, 3))
def test_any_bytes_are_refused_or_waited_for(parts: list[bytes], ours: bool, good: int) -> None:
    """A right beginning of so many steps, and then anything."""
    side: Initiator | Responder
    peer = Peer()
    if ours:
        side = initiator()
        peer.agree(side.begin()[:96])
        script = [peer.key, peer.fourth()[:8]]
    else:
        side = responder()
        script = [peer.key]
    with contextlib.suppress(RemoteError):
        for said in script[:good]:
            reply = side.handle_bytes(said)
            if not ours and said is peer.key:
                peer.agree(reply[:96])
                script.append(peer.third()[:60])
        for part in parts:
            if side.secured is None:
                side.handle_bytes(part)
    assert len(side._received) < 96 + 512 + 20 + 700


def test_padding_takes_any_length_up_to_the_most() -> None:
    lengths = {len(initiator(seed).begin()) - 96 for seed in range(3000)}
    assert min(lengths) == 0
    assert max(lengths) == 512
    assert mse.KEY_LENGTH == 96
