from __future__ import annotations

from engine_parts import Owner, connected, small_context

from btfast.wire import messages


async def test_only_bytes_that_leave_count_as_sent() -> None:
    """Every tick flushes: a flush of nothing must not put the next keep-alive off."""
    context = small_context()
    peer, theirs = connected(context, Owner())
    with theirs:
        began = peer.last_sent
        context.loop.ahead = 90
        peer.flush()
        assert peer.last_sent == began
        peer.send(messages.KEEP_ALIVE)
        peer.flush()
        assert peer.last_sent >= began + 90
        peer.close("over")
