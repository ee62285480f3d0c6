"""Tokens: who announces must have asked from the same address within the last ten minutes (BEP 5)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from btfast.discovery.dht.endpoints import Endpoint

LIFE = 300.0  # seconds of a secret; the one before is still taken
TOKEN_BYTES = 8


class Tokens:
    """Bound to the host and to what it asked for; a port may change on the way through a NAT."""

    def __init__(self, random: Callable[[int], bytes], now: float) -> None:
        self._random = random
        self._secret = random(16)
        self._previous = random(16)
        self._since = now

    def make(self, endpoint: Endpoint, target: bytes, now: float) -> bytes:
        self._rotate(now)
        return _token(self._secret, endpoint, target)

    def accepts(self, token: object, endpoint: Endpoint, target: bytes, now: float) -> bool:
        """Whether the token is one that we gave to this host for this target, not long ago."""
        self._rotate(now)
        if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
            return False
        secrets = (self._secret, self._previous)
        return any(hmac.compare_digest(token, _token(secret, endpoint, target)) for secret in secrets)

    def _rotate(self, now: float) -> None:
        if now - self._since >= 2 * LIFE:
            self._secret = self._random(16)  # nobody came for a while: neither is worth anything any more
        if now - self._since >= LIFE:
            self._previous, self._secret = self._secret, self._random(16)
            self._since = now


def _token(secret: bytes, endpoint: Endpoint, target: bytes) -> bytes:
    return hashlib.blake2b(endpoint[:-2] + target, key=secret, digest_size=TOKEN_BYTES).digest()
