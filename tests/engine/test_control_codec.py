"""Frames on a byte stream, and the messages between a caller, the network process and its workers."""

from __future__ import annotations

import itertools
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast import events
from btfast.config import Settings
from btfast.engine import control
from btfast.errors import InternalError
from btfast.frames import FRAME_LIMIT, Frames, frame
from btfast.storage import messages

COMMANDS: list[control.Command] = [
    control.Configure(Settings(workers=3, memory="64MiB", bind="::1"), details=False),
    control.Add(id=4, source="x.torrent", directory="/tmp/ü", data=bytes(range(256)), peers=[("::1", 5)], seed=True),
    control.Remove(4),
    control.Stop(),
]
REPORTS: list[control.Report] = [
    control.Listening(port=6881, pid=12, workers=[13, 14]),
    events.Added(id=0, source="a", directory="b"),
    events.FileDone(id=0, path="a/b", size=0),
    events.PieceFailed(id=0, index=3, peers=["1.2.3.4:5"]),
    events.Warning(id=None, message="careful"),
    events.Failed(id=0, source="a", error="x: y: z", kind="InputError", exit_code=2, done=1, total=2),
    events.Progress(
        id=0, state="downloading", done=1, total=2, rate_down=1.5, rate_up=0.0, peers=1, seeds=0, eta=None, uploaded=3
    ),
]
ORDERS: list[messages.Order] = [
    messages.OpenTorrent(
        torrent=1, directory="/x", paths=["a/b"], lengths=[5], pads=[], piece_length=16384, in_place=False, io="auto"
    ),
    messages.CloseTorrent(1),
    messages.CheckPieces(1, 2, bytes(40)),
]
ANSWERS: list[messages.Answer] = [
    messages.PiecesChecked(1, 2, b"\0\1\2"),
    messages.Problem(torrent=1, path="/x/a", message="No space left on device", errno=28),
]


def bodies(data: bytes) -> list[bytes]:
    return list(Frames().handle_bytes(data))


@pytest.mark.parametrize("message", COMMANDS, ids=lambda message: type(message).__name__)
def test_a_command_arrives_as_it_was_sent(message: control.Command) -> None:
    (body,) = bodies(control.encode(message))
    assert control.decode_command(body) == message


@pytest.mark.parametrize("message", REPORTS, ids=lambda message: type(message).__name__)
def test_a_report_arrives_as_it_was_sent(message: control.Report) -> None:
    (body,) = bodies(control.encode(message))
    assert control.decode_report(body) == message


@pytest.mark.parametrize("message", ORDERS, ids=lambda message: type(message).__name__)
def test_an_order_arrives_as_it_was_sent(message: messages.Order) -> None:
    (body,) = bodies(messages.encode(message))
    assert messages.decode_order(body) == message


@pytest.mark.parametrize("message", ANSWERS, ids=lambda message: type(message).__name__)
def test_an_answer_arrives_as_it_was_sent(message: messages.Answer) -> None:
    (body,) = bodies(messages.encode(message))
    assert messages.decode_answer(body) == message


def test_what_is_no_command_is_refused() -> None:
    for body in (b"", b"\xc0", msgspec.msgpack.encode({"type": "launch"}), bodies(control.encode(REPORTS[0]))[0]):
        with pytest.raises(msgspec.MsgspecError):
            control.decode_command(body)


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 2000), max_size=10))
def test_frames_are_the_same_however_the_stream_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(body) for body in sent)
    frames, found = Frames(), []
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for begin, end in itertools.pairwise(borders):
        found += frames.handle_bytes(stream[begin:end])
    assert found == sent


def test_frames_come_out_byte_by_byte() -> None:
    frames, found = Frames(), []
    for byte in frame(b"one") + frame(b"") + frame(b"two"):
        found += frames.handle_bytes(bytes([byte]))
    assert found == [b"one", b"", b"two"]


def test_a_frame_above_the_limit_is_an_error_before_it_is_received() -> None:
    assert bodies(struct.pack("<I", FRAME_LIMIT)) == []
    with pytest.raises(InternalError, match="above the limit"):
        bodies(struct.pack("<I", FRAME_LIMIT + 1))
