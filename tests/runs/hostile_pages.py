"""Requests to the page of results that no browser sends: as bytes, for many are no HTTP."""

from __future__ import annotations

import random
import socket

from tests.fuzz.mutations import damaged

_HOST = b"Host: 127.0.0.1\r\n"
_LONG = "a" * 60_000
_PATHS = (
    *("/go/-1", "/go/0", "/go/1.5", "/go/9" + "9" * 400, "/go/1/", "/go/1/none", "/go/1/lora/more", "/go/1/%00", "/go/1/%0d%0aX: y"),
    *("/go/1/..%2f..%2f", "/go/1/' OR 1=1 --", "/go/%F0%9F%91%97", "/go/1/%ff%fe", f"/go/1/{_LONG}", "/go//1", "/go/1?x=%0d%0aSet-Cookie:a"),
    *("/page/", "/page/ui.py", "/page/../ui.py", "/page/%2e%2e/ui.py", "/page/..%5cui.py", "/page/page.js%00", f"/page/{_LONG}"),
    *("/page/PAGE.JS", "/page/page.js/", "/page//etc/passwd", "/page/index.html", "/page/data.json/x", "/page/data.json?whole=%ff"),
    *("/page/data.json?" + "whole&" * 9000, "/page/data.json?whole[]=1", "/page/data.json#x", "/page/data.json;x"),
    *("/page/picture/.jpg", "/page/picture/x.jpg", "/page/picture/%2e%2e%2f%2e%2e%2fmlflow.jpg", "/page/picture/%00.jpg"),
    *(f"/page/picture/{_LONG}.jpg", f"/page/picture/{'0' * 32}.jpg", "/page/picture/' OR '1'='1.jpg", "/page/picture/%ff.jpg"),
    *("/page/picture/a/b.jpg", "/page/picture/pending-" + "0" * 32 + ".jpg", "/page/picture/latest.jpg", "/page/picture/%F0%9F%91%97.jpg"),
    *("//evil.example/", "/\\evil.example", "/?", "/?mlflow=//evil.example", "/%3Fmlflow", "*", "http://evil.example/", "/" + "../" * 3000),
)  # fmt: skip
_HEADERS = (
    b"",
    b"Host: evil.example\r\n",
    _HOST + b"Host: evil.example\r\n",
    _HOST + b"Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
    _HOST + b"Content-Length: -1\r\n",
    _HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
    _HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    _HOST + b"X: " + b"a" * 200_000 + b"\r\n",
    _HOST + b"".join(b"X-%d: y\r\n" % number for number in range(3000)),
    _HOST + b"X: \xff\xfe\x00\r\n",
    _HOST + b"Range: bytes=99999999999999999999-\r\n",
    _HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n",
    _HOST + b"Expect: 100-continue\r\nContent-Length: 10\r\n",
    b"Host: 127.0.0.1:99999999\r\n",
    b"Host: [::\r\n",
)
_METHODS = (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"HEAD", b"CONNECT", b"get", b"G" * 70_000)
_NONE = (
    *(b"", b"\r\n" * 1000, b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes(5000)),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /page/data.json HTTP/1.1\r\n" + _HOST, b"GET " + b"a" * 70_000),
)  # fmt: skip


def hostile_pages(count: int, seed: int = 0) -> list[bytes]:
    """So many requests, always the same: the named ones first, then damaged good ones."""
    found = [b"GET %s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (path.encode(), _HOST) for path in _PATHS]
    found += [b"GET /page/data.json HTTP/1.1\r\n%sConnection: close\r\n\r\n" % headers for headers in _HEADERS]
    for path in (b"/", b"/page/data.json", b"/go/1"):
        found += [b"%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (method, path, _HOST) for method in _METHODS]
    found += _NONE
    rng = random.Random(seed)
    good = b"GET /page/picture/%s.jpg?whole HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (b"0" * 32, _HOST)
    while len(found) < count:
        found.append(damaged(good, rng))
    return found[:count]


def answer_of(port: int, request: bytes, seconds: float = 30) -> bytes:
    """Everything that comes back for some bytes, behind which nothing follows; empty where the connection is closed on them."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        parts = list[bytes]()
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                parts.append(part)
        except ConnectionError:
            pass
    return b"".join(parts)
