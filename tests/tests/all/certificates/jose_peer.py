"""Verifies a certificate with PyJWT, of which Rekey knows nothing: prints the payload it believes."""

import json
import sys

import jwt

keys = jwt.PyJWKSet.from_json(open(sys.argv[1]).read())
signed = json.load(open(sys.argv[2]))["jws"]
kid = jwt.get_unverified_header(signed)["kid"]
key = next(key for key in keys.keys if key.key_id == kid)
payload = jwt.PyJWS().decode(signed, key, algorithms=["EdDSA"])
json.dump(json.loads(payload), sys.stdout)
