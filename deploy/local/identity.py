"""Who may ask, on a developer's machine: one key pair made for the stack, and tokens signed with it.

Production takes its keys from a JWKS URL instead (``MILLRACE_JWKS_URL``) and has no such key.
"""

import time
from datetime import timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.home import Home
from deploy.local.ledger import write_private

ALGORITHM = "ES256"
ISSUER = "millrace-local"
AUDIENCE = "millrace"
DEVELOPER = "local-developer"
LIFETIME = timedelta(hours=12)


def settings(home: Home) -> dict[str, str]:
    """What a verifier needs: the public key and whom to expect."""
    return {
        "MILLRACE_JWT_PUBLIC_KEY_FILE": str(_public_key_file(home)),
        "MILLRACE_JWT_ISSUER": ISSUER,
        "MILLRACE_JWT_AUDIENCE": AUDIENCE,
    }


def ensure_key_pair(home: Home) -> None:
    """Make the key pair of this stack unless it exists."""
    if _private_key_file(home).exists() and _public_key_file(home).exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(_private_key_file(home), private_pem.decode())
    _public_key_file(home).write_bytes(public_pem)


def mint(home: Home, user: str, lifetime: timedelta = LIFETIME) -> str:
    """A bearer token for ``user``, valid from now for ``lifetime``.

    Raises:
        FileNotFoundError: the stack was never up, so it has no key.
    """
    now_s = int(time.time())
    claims = {
        "sub": user,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s + int(lifetime.total_seconds()),
    }
    return jwt.encode(claims, _private_key_file(home).read_text(), algorithm=ALGORITHM)


def _private_key_file(home: Home) -> Path:
    return home.directory / "jwt-private.pem"


def _public_key_file(home: Home) -> Path:
    return home.directory / "jwt-public.pem"
