"""Python's websocket-client as the peer of examples/interop.rs: a client, and without permessage-deflate."""

import os
import struct
import sys
from websocket import ABNF, create_connection

REASON = "ends here ✓"
URL = sys.argv[2]


def connect(path):
    ws = create_connection(
        URL + path,
        timeout=10,
        subprotocols=["v0.chat", "v1.chat", "v2.chat"],
        sslopt={"ca_certs": os.environ["CERTIFICATE"]},
        http_no_proxy=["*"],
    )
    assert "sec-websocket-extensions" not in ws.headers, ws.headers
    return ws


def subprotocol():
    ws = connect("/echo")
    assert ws.subprotocol == "v2.chat", ws.subprotocol
    ws.close()


def echo(*messages, fragmented=False):
    ws = connect("/echo")
    for message in messages:
        opcode = ABNF.OPCODE_TEXT if isinstance(message, str) else ABNF.OPCODE_BINARY
        data = message.encode() if isinstance(message, str) else message
        if fragmented:
            third = len(data) // 3  # cuts characters too
            ws.send_frame(ABNF(0, 0, 0, 0, opcode, 1, data[:third]))
            ws.send_frame(ABNF(0, 0, 0, 0, ABNF.OPCODE_CONT, 1, data[third : 2 * third]))
            ws.send_frame(ABNF(1, 0, 0, 0, ABNF.OPCODE_CONT, 1, data[2 * third :]))
        else:
            ws.send(data, opcode)
        assert ws.recv_data() == (opcode, data), message[:50]
    ws.close()


def ping():
    ws = connect("/ping")
    assert ws.recv() == "go"
    ws.ping(b"from the client")
    opcode, frame = ws.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (ABNF.OPCODE_PONG, b"from the client"), (opcode, frame.data)
    ws.send("went")
    assert ws.recv() == "pong seen"
    ws.close()


def closed_by_the_server():
    opcode, data = connect("/server-closes").recv_data(control_frame=True)
    assert (opcode, data) == (ABNF.OPCODE_CLOSE, struct.pack(">H", 4002) + REASON.encode()), (opcode, data)


def closed_by_the_client():
    connect("/client-closes").close(4001, REASON.encode())
    ws = connect("/client-closed")
    seen = ws.recv()
    assert seen == f"4001 {REASON}", seen
    ws.close()


failed = 0
for name, check in {
    "subprotocol": subprotocol,
    "text": lambda: echo("grüße, 世界 🎈", "twice", "twice"),
    "binary": lambda: echo(bytes(range(256))),
    "empty": lambda: echo("", b"", ""),
    "1 MiB": lambda: echo("ä" * 2**19, os.urandom(2**20)),
    "fragmented": lambda: echo("grüße, 世界 🎈", os.urandom(2**20), fragmented=True),
    "ping": ping,
    "closed by the server": closed_by_the_server,
    "closed by the client": closed_by_the_client,
}.items():
    try:
        check()
        print(f"ok {name}")
    except Exception as error:
        failed += 1
        print(f"FAILED {name}: {error!r}")
sys.exit(failed > 0)
