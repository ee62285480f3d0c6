"""What the bytes of each piece hash to: SHA-1 over it (BEP 3), its place in its file's merkle tree (BEP 52), or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from btfast.metainfo import merkle
from btfast.metainfo.files import File
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.merkle import HASH

SHA1 = 20  # bytes of a digest
UNPROVED = b"?"  # in the place of one: nothing is said of single pieces, and the hash of the whole file decides


class PieceHashes:
    """Immutable but for `add_layer`: a v2 torrent from a magnet link has no piece layers, and gets them from peers.

    `pieces`: 20 bytes a piece, b"" where there is no v1 half. `layers`: piece layers by the root of their file; taken
    over, not copied. Raises ValueError as add_layer does.
    """

    __slots__ = ("_files", "_geometry", "_level", "_long", "_pieces", "_short", "_v2", "layers")

    layers: Mapping[bytes, bytes]  # by the root of the file, for files longer than a piece: to be read only

    def __init__(self, geometry: Geometry, files: Sequence[File], pieces: bytes, layers: Mapping[bytes, bytes]) -> None:
        self._geometry = geometry
        self._files = files
        self._pieces = pieces
        self._v2 = any(file.pieces_root is not None for file in files)
        self._short: frozenset[bytes | None] | None = None
        self._level = merkle.piece_level(geometry.piece_length) if self._v2 else 0
        self._long: dict[bytes, int] = {}  # what a layer is needed for: root and length of the file
        for file in files:
            root, length = file.pieces_root, file.length
            if root is None or length <= geometry.piece_length:
                continue
            if self._long.setdefault(root, length) != length:
                raise ValueError("two files of different lengths have one root")
        self.layers = {}
        for root, layer in layers.items():
            self.add_layer(root, layer)

    def add_layer(self, root: bytes, layer: bytes) -> None:
        """The piece layer of the files with that root. Raises ValueError when it is not theirs."""
        length = self._long.get(root)
        if length is None:
            if layer == root and self._is_short(root):
                return  # some tools write the layer of a file of one piece, which is its root
            raise ValueError(f"there is no file of more than one piece with root {root[:HASH].hex()}")
        if merkle.root_of(layer, self._level, length) != root:
            raise ValueError(f"the layer does not lead to root {root.hex()}")
        assert isinstance(self.layers, dict)
        self.layers[root] = layer

    def _is_short(self, root: bytes) -> bool:
        """Whether a file of one piece or less has that root."""
        if self._short is None:  # rarely asked for, but then perhaps for each of 100,000 files
            self._short = frozenset(file.pieces_root for file in self._files)
        return root in self._short

    @property
    def missing(self) -> list[bytes]:
        """Roots of files whose piece layer is not known yet."""
        return [] if len(self.layers) == len(self._long) else [root for root in self._long if root not in self.layers]

    @property
    def complete(self) -> bool:
        """Whether every piece can be verified by all that its torrent says of it."""
        return len(self.layers) == len(self._long)

    def digest(self, index: int) -> bytes:
        """What verifies piece `index`: SHA-1, then SHA-256, each as far as it is known; 0, 20, 32 or 52 bytes.

        Raises IndexError.
        """
        if not 0 <= index < self._geometry.piece_count:
            raise IndexError(f"piece {index} of {self._geometry.piece_count}")
        v1 = self._pieces[index * SHA1 : (index + 1) * SHA1]
        return v1 + self.v2_digest(index) if self._v2 else v1

    def v2_digest(self, index: int) -> bytes:
        """The 32 bytes of piece `index` in its file's tree; b"" where they are not known. Raises IndexError."""
        number = self._geometry.piece_files(index)[0]
        file = self._files[number]
        if file.pieces_root is None:
            return b""
        if file.length <= self._geometry.piece_length:
            return file.pieces_root
        layer = self.layers.get(file.pieces_root)
        if layer is None:
            return b""
        at = (index - self._geometry.file_pieces(number)[0]) * HASH
        return layer[at : at + HASH]


class NoHashes(PieceHashes):
    """Of a file of which only the hash of the whole is known."""

    __slots__ = ()

    def digest(self, index: int) -> bytes:
        return super().digest(index) or UNPROVED
