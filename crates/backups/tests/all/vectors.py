"""Checks the golden bundles and shares with the library cryptography alone, as docs/format/bundle.md says."""

import base64
import hashlib
import itertools
import json
import pathlib
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

formats = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(formats))
import open_bundle


def sha256(data):
    return hashlib.sha256(data).digest()


def derive(secret, label, plaintext, associated_data, recipient, length):
    info = label + sha256(plaintext) + sha256(associated_data) + recipient
    return HKDF(hashes.SHA256(), length, None, info).derive(secret)


def check(expected, found, what):
    if expected != found:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def check_set(vector):
    shares = [json.loads(text) for text in vector["shares"]]
    for chosen in itertools.combinations(shares, shares[0]["threshold"]):
        check(vector["seed"], open_bundle.seed_of(chosen).hex(), "seed")
    public = open_bundle.public_key(bytes.fromhex(vector["seed"]))
    check(vector["public_key"], public.hex(), "public key")
    check(vector["fingerprint"], open_bundle.fingerprint(public), "fingerprint")
    for text, share in zip(vector["shares"], shares):
        set_and_index = bytes.fromhex(share["set"].replace("-", "")) + bytes([share["index"]])
        committed = b"rekey recovery share v1 commitment" + set_and_index + base64.b64decode(share["share"])
        expected = share["commitments"][share["index"] - 1]
        check(expected, base64.b64encode(sha256(committed)).decode(), "commitment")
        unsigned = text.replace(share["checksum"], "")
        check(share["checksum"], sha256(unsigned.encode()).hex()[:16], "checksum")


def check_contents(plaintext, key):
    contents = json.loads(plaintext)
    check(contents["sha256"], sha256(key).hex(), "hash of the key")
    derived = HKDF(hashes.SHA256(), 32, None, b"rekey key check value v1").derive(key)
    check(contents["check_value"], base64.b64encode(derived).decode(), "check value")
    material = contents.get("material")
    check(material is None or base64.b64decode(material) == key, True, "key")


def check_backup_seal(vector, bundle, key):
    seal, says = bundle["seals"]["backup"], vector["backup"]
    plaintext, bound = says["plaintext"].encode(), open_bundle.associated_data("BACKUP", bundle)
    check(says["associated_data"].encode(), bound, "associated data")
    recipient = bytes.fromhex(seal["key_id"])
    nonce = derive(key, b"rekey bundle v1 backup nonce", plaintext, bound, recipient, 12)
    check(says["nonce"], nonce.hex(), "nonce")
    check(seal["nonce"], base64.b64encode(nonce).decode(), "nonce")
    sealed = AESGCM(bytes.fromhex(vector["backup_key"])).encrypt(nonce, plaintext, bound)
    check(seal["ciphertext"], base64.b64encode(sealed).decode(), "ciphertext")
    check("material" in json.loads(plaintext), "master" not in bundle["seals"], "where the key is")
    check_contents(plaintext, key)


def check_recovery_seal(vector, bundle, key, recovery):
    seal, says = bundle["seals"]["recovery"], vector["recovery"]
    plaintext = open_bundle.recover(bundle, bytes.fromhex(recovery["seed"]))
    check(says["plaintext"].encode(), plaintext, "plaintext")
    bound = open_bundle.associated_data("RECOVERY", bundle)
    check(says["associated_data"].encode(), bound, "associated data")
    label, public = b"rekey bundle v1 recovery encapsulation", bytes.fromhex(recovery["public_key"])
    randomness = derive(key, label, plaintext, bound, public, 64)
    check(says["randomness"], randomness.hex(), "randomness")
    # The library encapsulates with bytes of its own only; the half that is X25519 can be made by hand.
    ephemeral = x25519.X25519PrivateKey.from_private_bytes(randomness[32:]).public_key()
    check(base64.b64decode(seal["encapsulation"])[1088:], ephemeral.public_bytes_raw(), "encapsulation")
    check_contents(plaintext, key)


def check_bundle(vector, sets):
    text, key = vector["bundle"], bytes.fromhex(vector["key"])
    bundle = json.loads(text)
    check(vector["name"], f"bundles/{bundle['key_id']}/{sha256(text.encode()).hex()}.json", "name")
    check_backup_seal(vector, bundle, key)
    if "recovery" in bundle["seals"]:
        fingerprint = bundle["seals"]["recovery"]["fingerprint"]
        check_recovery_seal(vector, bundle, key, sets[fingerprint])


sets, bundles = [json.loads((formats / name).read_text()) for name in ("recovery-share.json", "bundle.json")]
for vector in sets:
    check_set(vector)
for vector in bundles:
    check_bundle(vector, {each["fingerprint"]: each for each in sets})
print(f"{len(sets)} sets of shares and {len(bundles)} bundles")
