"""A local web server of one file, which errs in the ways that real ones do."""

import http.server
import random
import re
import sys
import threading

CONTENT = random.Random(0).randbytes(2000)


class Site(http.server.ThreadingHTTPServer):
    """A server of one file. The tests change its attributes.

    Attributes:
      content, etag: of the file; etag may be None.
      ranges: whether it can send a part of the file.
      checks_version: whether it sends a part only of the version that was asked for.
      framing: how the end is told: "length", "chunked" or "close" (of the connection).
      status: an error that it answers with, instead of the file.
      ends: of the next answers, the bytes after which each ends, or None for all; later answers are whole.
      stalls: whether the connection stays open, in silence, where an answer ends too early.
      finished: set at the end of the test.
      requests: headers of those that came.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/files/a%3D1.pth?download=1"
        self.content, self.etag, self.ranges, self.framing, self.status = CONTENT, '"one"', True, "length", None
        self.ends, self.stalls, self.requests, self.finished = [], False, [], threading.Event()
        self.checks_version = True

    def asked(self):
        """The `Range` of each request."""
        return [headers.get("Range") for headers in self.requests]

    def handle_error(self, request, client_address):
        """Lets a client hang up: one that refuses a file does not read it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # for chunks; urllib asks that each connection be closed all the same

    def do_GET(self):
        site, start = self.server, 0
        site.requests.append(self.headers)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", site.etag) == site.etag or not site.checks_version
        if wanted and site.ranges and same:
            start = int(wanted[1])
        if site.status or start >= len(site.content):
            self.send_response(site.status or 416)
            self.send_header("Content-Length", "0")
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            return self.end_headers()
        body, end = site.content[start:], site.ends.pop(0) if site.ends else None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif site.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for place in range(0, len(body[:end]), 100):
            piece = body[:end][place : place + 100]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if site.framing == "chunked" else piece)
        if end is None and site.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        if end is not None and site.stalls and not site.finished.wait(10):
            self.wfile.write(body[end:])  # somebody waited far too long

    def log_message(self, *_):
        """Says nothing: the command line's messages are counted."""
