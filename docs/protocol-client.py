#!/usr/bin/env python3
"""Sends an image to imgsys and prints the answer: docs/protocol.md in some 40 lines.

usage: protocol-client.py IMAGE [HOST [PORT]]      (needs cbor2: pip install cbor2)
"""
import hashlib, json, os, socket, struct, sys, time
import cbor2

def say(name, keys, body=b""):
    head = cbor2.dumps({name: keys})
    stream.write(struct.pack(">II", len(head), len(body)) + head + body)
    stream.flush()

def read(length):
    data = stream.read(length)
    if len(data) < length:
        sys.exit("the connection was lost; run me again")
    return data

def hear():
    head_len, body_len = struct.unpack(">II", read(8))
    [(name, keys)] = cbor2.loads(read(head_len)).items()
    read(body_len)
    if name in ("rejected", "goodbye"):
        sys.exit(f"{name}: {keys['code']}: {keys['text']}")
    return name, keys

if len(sys.argv) not in (2, 3, 4):
    sys.exit(__doc__)
path, host, port = (sys.argv[1:] + ["localhost", "7450"][len(sys.argv) - 2:])
image = open(path, "rb").read()
# A UUID of version 7: 48 bits of milliseconds, the rest random but for version and variant.
job = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
job[6], job[8] = job[6] & 0x0F | 0x70, job[8] & 0x3F | 0x80
submit = {"job": bytes(job), "name": os.path.basename(path), "size": len(image),
          "sha256": hashlib.sha256(image).digest()}

stream = socket.create_connection((host, int(port))).makefile("rwb")
say("hello", {"version": 1, "program": "protocol-client.py"})
hear()  # welcome
say("submit", {"req": 1, **submit})  # without a body: are the bytes needed?
name, keys = hear()
if name == "send_body":
    say("submit", {"req": 2, **submit}, image)
    name, keys = hear()
print("accepted, a duplicate" if keys["duplicate"] else "accepted", file=sys.stderr)
name, keys = hear()  # result
print(json.dumps(keys, default=bytes.hex, indent=2))
