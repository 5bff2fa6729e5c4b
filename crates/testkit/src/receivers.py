"""Receivers of notifications, none of it ours: standardwebhooks verifies, aiosmtpd takes mail.

usage: receivers.py FOLDER SECRET [CERTIFICATE KEY]. Writes the ports to FOLDER/ports, and a line of JSON for each
message to FOLDER/received.
"""

import asyncio
import http.server
import json
import ssl
import sys
import threading
import time

from aiosmtpd.controller import Controller
from standardwebhooks.webhooks import Webhook

folder, secret = sys.argv[1], sys.argv[2]
lock = threading.Lock()
asked = {}


def note(**what):
    with lock, open(folder + "/received", "a") as received:
        received.write(json.dumps(what) + "\n")


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        note(path=self.path, at=time.time())
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        verified = None
        if "webhook-signature" in headers:
            try:
                Webhook(secret).verify(body, headers)
                verified = True
            except Exception:
                verified = False
        note(path=self.path, at=time.time(), headers=headers, body=body.decode(), verified=verified)
        kind = self.path.strip("/").split("/")[0]
        asked[self.path] = asked.get(self.path, 0) + 1
        if kind == "ok":
            self.answer(204)
        elif kind == "once":
            self.answer(503 if asked[self.path] == 1 else 204)
        elif kind == "denied":
            self.answer(403 if asked[self.path] == 1 else 204)
        elif kind == "noends":
            self.answer(503 if b'"resolve"' in body else 204)
        elif kind == "slow":
            time.sleep(3)
            self.answer(204)
        elif kind == "later":
            self.answer(429 if asked[self.path] == 1 else 204, {"retry-after": "3"})
        elif kind == "hang":
            time.sleep(60)
        elif kind == "redirect":
            self.answer(302, {"location": "/ok/redirected"})
        elif kind == "large":
            self.send_response(200)
            self.send_header("content-length", str(1 << 30))
            self.end_headers()
            for _ in range(1 << 10):
                self.wfile.write(b"x" * (1 << 20))
        elif kind == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(60):
                time.sleep(1)
                self.wfile.write(b"x-drip: 1\r\n")
        else:
            self.answer(int(kind))

    def answer(self, status, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Mailbox:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone"):
            return "550 no such user"
        asked[address] = asked.get(address, 0) + 1
        if address.startswith("late") and asked[address] < 2:
            return "450 greylisted"
        if address.startswith("hangs"):
            await asyncio.sleep(300)
        if address.startswith("drops"):
            server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 taken"

    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode()
        note(path="mail", at=time.time(), to=envelope.rcpt_tos, body=text, tls=session.ssl is not None)
        return "250 taken"


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args):
        pass


web = Quiet(("127.0.0.1", 0), Receiver)
threading.Thread(target=web.serve_forever, daemon=True).start()
ports = {"http": web.server_address[1]}


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


options = {}
if len(sys.argv) > 4:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    options = {"tls_context": context, "require_starttls": True}
for name, with_tls in (("smtp", options), ("plain", {})):
    ports[name] = free_port()
    Controller(Mailbox(), hostname="127.0.0.1", port=ports[name], **with_tls).start()
with open(folder + "/ports.new", "w") as file:
    json.dump(ports, file)
import os

os.rename(folder + "/ports.new", folder + "/ports")
asyncio.new_event_loop().run_forever()
