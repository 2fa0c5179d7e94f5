"""Many users at once: their tokens, minted before any clock starts."""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.local import identity
from deploy.local.stack import Stack


def tokens(stack: Stack, prefix: str, count: int) -> list[str]:
    """Tokens of `count` different users of a stack that was up at least once, valid for 12 hours."""
    return mint(stack.directory / "jwt-private.pem", prefix, range(count))


def mint(key_file: Path, prefix: str, numbers: range) -> list[str]:
    """Tokens of the users `prefix-number`; the key is read once, which makes it some 40 µs a token."""
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    now_s = int(time.time())
    common = {
        "iss": identity.ISSUER,
        "aud": identity.AUDIENCE,
        "iat": now_s,
        "exp": now_s + int(identity.LIFETIME.total_seconds()),
    }
    return [jwt.encode({"sub": f"{prefix}-{number}", **common}, key, identity.ALGORITHM) for number in numbers]
