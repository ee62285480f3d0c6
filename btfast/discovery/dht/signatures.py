"""Ed25519 for mutable items (BEP 44), by the library `cryptography`, which is loaded when the first one is met."""

from __future__ import annotations


class Ed25519:
    """items.Signatures."""

    def verify(self, key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the public key (32 bytes) signed the message (64 bytes of signature)."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def public_key(seed: bytes) -> bytes:
    """The public key of a private one (its 32-byte seed)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """64 bytes of signature."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)
