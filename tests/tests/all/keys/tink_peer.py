"""Tink's side of the interoperability test: one JSON request a line in, one JSON answer a line out.

Request: {"op": "encrypt" | "decrypt", "key": hex, "key_id": number, "aad": hex, "data": hex}
Answer:  {"data": hex}, or {"error": text} if Tink refused.
"""

import base64
import json
import sys

import tink
from tink import aead, json_proto_keyset_format, secret_key_access
from tink.proto import aes_gcm_pb2


def primitive(key, key_id):
    """Tink's AEAD for a raw AES-256-GCM key, with Tink's output prefix."""
    proto = aes_gcm_pb2.AesGcmKey(version=0, key_value=key)
    keyset = {
        "primaryKeyId": key_id,
        "key": [
            {
                "keyData": {
                    "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey",
                    "value": base64.b64encode(proto.SerializeToString()).decode(),
                    "keyMaterialType": "SYMMETRIC",
                },
                "status": "ENABLED",
                "keyId": key_id,
                "outputPrefixType": "TINK",
            }
        ],
    }
    handle = json_proto_keyset_format.parse(json.dumps(keyset), secret_key_access.TOKEN)
    return handle.primitive(aead.Aead)


def answer(request):
    """Does what one request asks."""
    cipher = primitive(bytes.fromhex(request["key"]), request["key_id"])
    operation = {"encrypt": cipher.encrypt, "decrypt": cipher.decrypt}[request["op"]]
    data, aad = bytes.fromhex(request["data"]), bytes.fromhex(request["aad"])
    try:
        return {"data": operation(data, aad).hex()}
    except tink.TinkError as error:
        return {"error": str(error)}


def main():
    """Answers until the input ends."""
    aead.register()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


main()
