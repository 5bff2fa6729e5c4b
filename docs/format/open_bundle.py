"""Opens a bundle with shares of the RECOVERY key, without Rekey. bundle.md, beside it, defines what it reads.

    python open_bundle.py BUNDLE SHARE SHARE ...        needs the library cryptography; tried with 50

Prints the key and its details, or what the deployment's bundle holds: it may be a secret.
"""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def multiply(a, b):
    """In GF(256) modulo x^8 + x^4 + x^3 + x + 1, as AES does."""
    product = 0
    for bit in range(8):
        product ^= a << bit if b >> bit & 1 else 0
    for bit in range(14, 7, -1):
        product ^= 0x11B << bit - 8 if product >> bit & 1 else 0
    return product


def divide(a, b):
    return next(c for c in range(256) if multiply(c, b) == a)


def combine(points):
    """The value at 0 of the polynomial through the points {index: byte}."""
    secret = 0
    for x, y in points.items():
        for other in points.keys() - {x}:
            y = multiply(y, divide(other, other ^ x))
        secret ^= y
    return secret


def seed_of(shares):
    """The 32 bytes of the private RECOVERY key."""
    first = shares[0]
    if any(share["set"] != first["set"] for share in shares):
        sys.exit("the shares are of different sets")
    values = {share["index"]: base64.b64decode(share["share"]) for share in shares}
    if len(values) < first["threshold"]:
        sys.exit(f"too few shares: expected {first['threshold']}, found {len(values)}")
    seed = bytes(combine({index: value[at] for index, value in values.items()}) for at in range(32))
    if fingerprint(public_key(seed)) != first["fingerprint"]:
        sys.exit("the shares make another key than they say: one of them was altered")
    return seed


def halves(seed):
    """X-Wing makes two keys of its seed."""
    expanded = hashlib.shake_256(seed).digest(96)
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def public_key(seed):
    return b"".join(half.public_key().public_bytes_raw() for half in halves(seed))


def fingerprint(public):
    digits = hashlib.sha256(public).hexdigest()[:40]
    return "-".join(digits[at : at + 4] for at in range(0, 40, 4))


def associated_data(seal, bundle):
    seals = bundle["seals"]
    if bundle["format"] == "rekey.deployment/v1":
        return (
            "rekey deployment v1\n"
            f"seal={seal}\n"
            f"deployment={bundle['deployment']}\n"
            f"backup={seals['backup']['key_id']}\n"
            f"recovery={seals['recovery']['fingerprint'] if 'recovery' in seals else 'none'}\n"
        ).encode()
    return (
        "rekey bundle v1\n"
        f"seal={seal}\n"
        f"deployment={bundle['deployment']}\n"
        f"key_id={bundle['key_id']}\n"
        f"backup={seals['backup']['key_id']}\n"
        f"master={seals['master']['keyring'] if 'master' in seals else 'none'}\n"
        f"recovery={seals['recovery']['fingerprint'] if 'recovery' in seals else 'none'}\n"
    ).encode()


def recover(bundle, seed):
    """What the RECOVERY seal holds."""
    seal = bundle["seals"]["recovery"]
    sealed = base64.b64decode(seal["encapsulation"]) + base64.b64decode(seal["ciphertext"])
    key = hpke.MLKEM768X25519PrivateKey(*halves(seed))
    return SUITE.decrypt(sealed, key, associated_data("RECOVERY", bundle))


if __name__ == "__main__":
    bundle, *shares = [json.load(open(path)) for path in sys.argv[1:]]
    print(recover(bundle, seed_of(shares)).decode().strip())
