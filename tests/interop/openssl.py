"""A WebSocket echo server for one connection, with the TLS of `openssl s_server`.

    openssl.py [OPTIONS OF S_SERVER]…

Prints its port. Before it echoes the message `k`, `K` or `r`, it gives s_server the command of that letter: update its
own key, update both keys, or renegotiate (TLS 1.2).
"""

import base64
import fcntl
import hashlib
import re
import subprocess
import sys
import termios
import time
import zlib

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def main():
    command = ["stdbuf", "-oL", "openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", *sys.argv[1:]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as server:
        try:
            serve(Output(server.stdout), server.stdin)
        except EOFError:
            pass  # s_server has written the reason to stderr
        finally:
            server.kill()


def serve(received, sent):
    port = received.cut(rb"(?s)^.*ACCEPT [^\n]*:(\d+)\n").group(1)
    print(port.decode(), flush=True)
    # s_server prints lines about the TLS session before the request.
    head = received.cut(rb"(?s)^.*GET .*\r\n\r\n").group()
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", head).group(1)
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    deflate = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if b"permessage-deflate" in head else b""
    sent.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + deflate + b"\r\n"
    )
    inflater = zlib.decompressobj(-15)
    while True:
        first, length = received.exactly(2)
        assert length & 0x80 and length & 0x7F < 126, "the client's messages are masked, and shorter than 126 bytes"
        mask = received.exactly(4)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(received.exactly(length & 0x7F)))
        message = inflater.decompress(payload + b"\0\0\xff\xff") if first & 0x40 else payload
        if message in (b"k", b"K", b"r"):
            wait_until_taken(sent)
            sent.write(message + b"\n")
            received.cut(rb"SSL_do_handshake -> 1\n")
        # A compressed payload is echoed unchanged: the compression history of both directions is the same.
        sent.write(bytes([first, len(payload)]) + payload)
        if first & 0x0F == 8:
            wait_until_taken(sent)
            sent.write(b"Q\n")
            while True:
                received.more()


def wait_until_taken(pipe):
    """Waits until s_server has read everything. It takes a letter as a command only at the start of a read."""
    while fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4) != b"\0" * 4:
        time.sleep(0.001)


class Output:
    """The output of s_server: the received bytes, mixed with its own messages."""

    def __init__(self, stream):
        self.stream = stream
        self.buffer = b""

    def cut(self, pattern):
        """Waits for the pattern, and removes it from the output, wherever it is."""
        while not (match := re.search(pattern, self.buffer)):
            self.more()
        self.buffer = self.buffer[: match.start()] + self.buffer[match.end() :]
        return match

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        read, self.buffer = self.buffer[:count], self.buffer[count:]
        return read

    def more(self):
        more = self.stream.read(4096)
        if not more:
            raise EOFError
        self.buffer = (self.buffer + more).replace(b"Read BLOCK\n", b"")


main()
