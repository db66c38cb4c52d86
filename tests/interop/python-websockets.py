"""Python's websockets as the peer of examples/interop.rs, which describes the programs and the paths."""

import argparse
import os
import queue
import ssl
import sys
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

REASON = "ends here ✓"
CLOSES = queue.Queue()


def server(arguments):
    context = None
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    with websockets.sync.server.serve(
        serve,
        "127.0.0.1",
        0,
        ssl=context,
        subprotocols=["v2.chat", "v1.chat"],
        compression=arguments.compression,
        max_size=None,
    ) as listener:
        print(listener.socket.getsockname()[1], flush=True)
        listener.serve_forever()


def serve(ws):
    path = ws.request.path
    if path == "/echo":
        for message in ws:
            ws.send(message)
    elif path == "/fragments":
        for message in ws:
            third = len(message) // 3
            ws.send([message[:third], message[third : 2 * third], message[2 * third :]])
    elif path == "/ping":
        pong = ws.ping(b"from the server")
        ws.send("go")
        ws.recv(timeout=10)
        ws.send("pong seen" if pong.is_set() else "no pong")
        for _ in ws:
            pass
    elif path == "/server-closes":
        ws.close(4002, REASON)
    elif path == "/client-closes":
        CLOSES.put(wait_for_close(ws))
    elif path == "/client-closed":
        ws.send(CLOSES.get(timeout=10))


def wait_for_close(ws):
    """Returns the code, a space and the reason of the other side's close frame."""
    try:
        message = ws.recv(timeout=10)
    except websockets.exceptions.ConnectionClosed as closed:
        return f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "1006 "
    return f"no close but {message!r}"


def client(arguments):
    context = None
    if arguments.url.startswith("wss:"):
        context = ssl.create_default_context(cafile=os.environ["CERTIFICATE"])

    def connect(path):
        return websockets.sync.client.connect(
            arguments.url + path,
            ssl=context,
            subprotocols=["v0.chat", "v1.chat", "v2.chat"],
            compression=arguments.compression,
            max_size=None,
            proxy=None,
        )

    def subprotocol():
        with connect("/echo") as ws:
            assert ws.subprotocol == "v2.chat", ws.subprotocol

    def extension():
        with connect("/echo") as ws:
            names = [extension.name for extension in ws.protocol.extensions]
            assert names == ["permessage-deflate"] * (arguments.compression is not None), names

    def echo(*messages, fragmented=False):
        with connect("/echo") as ws:
            for message in messages:
                third = len(message) // 3
                pieces = [message[:third], message[third : 2 * third], message[2 * third :]]
                ws.send(pieces if fragmented else message)
                assert ws.recv(timeout=10) == message, message[:50]

    def ping():
        with connect("/ping") as ws:
            assert ws.recv(timeout=10) == "go"
            pong = ws.ping(b"from the client")
            ws.send("went")
            assert ws.recv(timeout=10) == "pong seen"
            assert pong.is_set()

    def closed_by_the_server():
        with connect("/server-closes") as ws:
            seen = wait_for_close(ws)
            assert seen == f"4002 {REASON}", seen

    def closed_by_the_client():
        with connect("/client-closes") as ws:
            ws.close(4001, REASON)
            assert ws.close_code == 4001, ws.close_code
        with connect("/client-closed") as ws:
            seen = ws.recv(timeout=10)
            assert seen == f"4001 {REASON}", seen

    return {
        "subprotocol": subprotocol,
        "extension": extension,
        "text": lambda: echo("grüße, 世界 🎈", "twice", "twice"),
        "binary": lambda: echo(bytes(range(256))),
        "empty": lambda: echo("", b"", ""),
        "1 MiB": lambda: echo("ä" * 2**19, os.urandom(2**20)),
        "fragmented": lambda: echo("grüße, 世界 🎈", os.urandom(2**20), fragmented=True),
        "ping": ping,
        "closed by the server": closed_by_the_server,
        "closed by the client": closed_by_the_client,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--no-deflate", dest="compression", action="store_const", const=None, default="deflate")
    arguments = parser.parse_args()
    if arguments.role == "server":
        return server(arguments)
    failed = 0
    for name, check in client(arguments).items():
        try:
            check()
            print(f"ok {name}")
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {error!r}")
    return failed > 0


sys.exit(main())
