"""Which state each piece is in: the one owner of that fact.

A piece is in exactly one state, and leaves it only by one of these transitions:

    method                  from                to          when
    want                    MISSING             WANTED      the user asks for a file
    unwant                  WANTED              MISSING     the user drops a file
    hold                    WANTED, HASHLESS    MISSING     it is to come from elsewhere, and is still missed
    release                 MISSING             WANTED      it does not come from there
    wait_for_hashes         WANTED              HASHLESS    its hash is to come first
    hashes_came             HASHLESS            WANTED      it has come, or is done without
    open                    WANTED              RECEIVING   it has a slot; blocks are asked for
    abandon                 RECEIVING           WANTED      its slot was taken back, its blocks are lost
    whole                   RECEIVING           HASHING     its last block came
    failed                  HASHING             WANTED      its hash is wrong
    mend                    HASHING             RECEIVING   its hash is wrong, and which of its blocks are is known
    verified_not_written    HASHING             WRITING     its hash is right, the disk refused it
    written                 HASHING, WRITING    HAVE        verified and on disk
    found                   MISSING, WANTED,    HAVE        a check found it on disk
                            HASHLESS
    lost                    HAVE                WANTED      a check found it gone

What has no hash yet becomes HASHLESS where it would become WANTED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum

from btfast._bitfield import Bitfield
from btfast.errors import InternalError
from btfast.metainfo.geometry import Geometry


class PieceState(IntEnum):
    """Where a piece stands. MISSING: not wanted. WRITING: verified, its write must be repeated.

    HASHLESS: wanted, and nothing is known yet that could verify it.
    """

    MISSING = 0
    WANTED = 1
    RECEIVING = 2
    HASHING = 3
    WRITING = 4
    HAVE = 5
    HASHLESS = 6


MISSING, WANTED, RECEIVING, HASHING, WRITING, HAVE, HASHLESS = (int(state) for state in PieceState)

_STATES = tuple(PieceState)
_AS_STATES = bytes(WANTED if level else MISSING for level in range(256))
_AS_BITS = {
    wanted: bytes(ord("1") if state == wanted else ord("0") for state in range(256)) for wanted in (WANTED, HASHLESS)
}
_WITHOUT = bytes(HASHLESS if state == WANTED else state for state in range(256))
_WITH = bytes(WANTED if state == HASHLESS else state for state in range(256))


class Pieces:
    """States of all pieces of one torrent: one byte a piece.

    `have` gives the pieces that are on disk already (the object is kept and updated); the others are WANTED, or
    MISSING when `wanted` is False, or has a 0 byte for them. `revision` grows when the set of WANTED pieces changes behind
    the picker's back. `held`: pieces that are wanted and not to be asked for, since they are to come from elsewhere.
    `has_hash(index)`: whether something is known that can verify a piece.
    """

    __slots__ = ("_counts", "_has_hash", "_states", "bytes_left", "geometry", "have", "held", "revision")

    geometry: Geometry
    have: Bitfield
    bytes_left: int
    revision: int

    def __init__(
        self, geometry: Geometry, have: Bitfield | None = None, *, wanted: bytes | bool = True,
        has_hash: Callable[[int], object] = lambda _: True,
    ) -> None:  # fmt: skip
        count = geometry.piece_count
        self._has_hash = has_hash
        self.geometry = geometry
        self.have = Bitfield(count) if have is None else have
        self.revision = 0
        self.held: set[int] = set()
        size = geometry.piece_size
        if isinstance(wanted, bytes):
            self._states = bytearray(wanted.translate(_AS_STATES))
            self.bytes_left = sum(size(index) for index, level in enumerate(wanted) if level)
        else:
            self._states = bytearray((WANTED if wanted else MISSING,)) * count
            self.bytes_left = geometry.total_length if wanted else 0
        self._counts = [self._states.count(state) for state in range(len(_STATES))]
        self.found(self.have.indices())
        self.revision = 0

    def __len__(self) -> int:
        return len(self._states)

    def state(self, index: int) -> PieceState:
        """The state of piece `index`."""
        return _STATES[self._states[index]]

    def count(self, state: PieceState | int) -> int:
        """How many pieces are in `state`."""
        return self._counts[state]

    @property
    def complete(self) -> bool:
        """Nothing that is wanted is left to fetch, hash or write."""
        counts = self._counts
        return counts[WANTED] + counts[RECEIVING] + counts[HASHING] + counts[WRITING] + counts[HASHLESS] == 0 and not self.held

    @property
    def seeding(self) -> bool:
        """Every piece of the torrent is HAVE."""
        return self._counts[HAVE] == len(self._states)

    def is_wanted(self, index: int) -> bool:
        """Whether piece `index` is WANTED: not asked for yet."""
        return self._states[index] == WANTED

    def next_wanted(self, start: int) -> int:
        """The first WANTED piece at or after `start`, or -1."""
        return self._states.find(WANTED, start)

    def wanted_indexes(self) -> list[int]:
        """All WANTED pieces in order."""
        return [index for index, state in enumerate(self._states) if state == WANTED]

    def mask(self, state: int) -> int:
        """Pieces in `state`, WANTED or HASHLESS, as an int in which piece i is bit (piece count - 1 - i)."""
        return int(self._states.translate(_AS_BITS[state]), 2) if self._states else 0

    def want(self, index: int) -> bool:
        """MISSING to WANTED; False when it was not MISSING, or is held."""
        if self._states[index] != MISSING or index in self.held:
            return False
        self._want(index)
        self.bytes_left += self.geometry.piece_size(index)
        self.revision += 1
        return True

    def unwant(self, index: int) -> bool:
        """WANTED to MISSING; False when it was not WANTED: a piece under way is finished."""
        if self._states[index] not in (WANTED, HASHLESS):
            return False
        self._move(index, MISSING)
        self.bytes_left -= self.geometry.piece_size(index)
        self.revision += 1
        return True

    def hold(self, index: int) -> bool:
        """WANTED to MISSING, and still missed; False when it was not WANTED: a piece under way is finished."""
        if self._states[index] not in (WANTED, HASHLESS):
            return False
        self._move(index, MISSING)
        self.held.add(index)
        self.revision += 1
        return True

    def release(self, index: int) -> bool:
        """MISSING to WANTED; False when it was not held."""
        if index not in self.held:
            return False
        self.held.discard(index)
        self._want(index)
        self.revision += 1
        return True

    def wait_for_hashes(self, indexes: range) -> None:
        """WANTED to HASHLESS, for those of `indexes`, a row of pieces, that are WANTED."""
        self._translate(indexes, WANTED, HASHLESS, _WITHOUT)
        self.revision += 1

    def hashes_came(self, indexes: range) -> list[int]:
        """HASHLESS to WANTED, for those of `indexes`, a row of pieces, that are HASHLESS: these. The picker has to know."""
        return self._translate(indexes, HASHLESS, WANTED, _WITH)

    def _translate(self, indexes: range, was: int, state: int, table: bytes) -> list[int]:
        before = self._states[indexes.start : indexes.stop]
        changed = [index for index, each in zip(indexes, before, strict=True) if each == was]
        self._states[indexes.start : indexes.stop] = before.translate(table)
        self._counts[was] -= len(changed)
        self._counts[state] += len(changed)
        return changed

    def open(self, index: int) -> None:
        """WANTED to RECEIVING."""
        self._step(index, (WANTED,), RECEIVING)

    def abandon(self, index: int) -> None:
        """RECEIVING back to WANTED."""
        self._step(index, (RECEIVING,), WANTED)

    def whole(self, index: int) -> None:
        """RECEIVING to HASHING."""
        self._step(index, (RECEIVING,), HASHING)

    def failed(self, index: int) -> None:
        """HASHING back to WANTED."""
        self._step(index, (HASHING,), WANTED)

    def mend(self, index: int) -> None:
        """HASHING back to RECEIVING."""
        self._step(index, (HASHING,), RECEIVING)

    def verified_not_written(self, index: int) -> None:
        """HASHING to WRITING."""
        self._step(index, (HASHING,), WRITING)

    def written(self, index: int) -> None:
        """HASHING or WRITING to HAVE."""
        self._step(index, (HASHING, WRITING), HAVE)
        self.have.set(index)
        self.bytes_left -= self.geometry.piece_size(index)

    def found(self, indexes: Iterable[int]) -> None:
        """MISSING, WANTED or HASHLESS to HAVE, for each of `indexes`; those that are HAVE already stay."""
        for index in indexes:
            state = self._states[index]
            if state == HAVE:
                continue
            self._step(index, (MISSING, WANTED, HASHLESS), HAVE)
            self.have.set(index)
            if state != MISSING or index in self.held:
                self.held.discard(index)
                self.bytes_left -= self.geometry.piece_size(index)
        self.revision += 1

    def lost(self, index: int) -> None:
        """HAVE back to WANTED."""
        self._step(index, (HAVE,), WANTED)
        self._want(index)
        self.have.clear(index)
        self.bytes_left += self.geometry.piece_size(index)
        self.revision += 1

    def _want(self, index: int) -> None:
        self._move(index, WANTED if self._has_hash(index) else HASHLESS)

    def _move(self, index: int, state: int) -> None:
        counts = self._counts
        counts[self._states[index]] -= 1
        counts[state] += 1
        self._states[index] = state

    def _step(self, index: int, allowed: tuple[int, ...], state: int) -> None:
        was = self._states[index]
        if was not in allowed:
            raise InternalError(
                f"piece {index}: {_STATES[was].name} cannot become {_STATES[state].name}: please report this",
                index=index,
                state=_STATES[was],
            )
        self._move(index, state)
