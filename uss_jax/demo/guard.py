"""Which requests are answered: those that a page of ours makes, and programs of this machine."""

import ipaddress
import re
import socket
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: checks whom a request is for and whom it is from, and adds the headers above where missing.

    A page elsewhere can make a browser send requests here: by a name of its own that it lets point to this machine,
    which the header Host shows, or by a form, which the header Origin shows.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """Args: app; host, the name or address that the server listens on."""
        self._app = app
        bound = f"[{host}]" if ":" in host else host.lower()
        self._names = {*LOOPBACK, bound}
        self._addresses = False
        if host in ("0.0.0.0", "::"):
            self._names.add(socket.gethostname().lower())
            self._addresses = True  # any, for only a name can be made to point here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        if not self._knows(headers.getlist("host")):
            answer: ASGIApp = JSONResponse({"error": "this server does not go by that name"}, 421)
        elif scope["method"] not in ("GET", "HEAD") and not _of_own_page(headers):
            answer = JSONResponse({"error": "only the page of this server may ask for this"}, 403)
        else:
            answer = self._app
        await answer(scope, receive, send_with_headers)

    def _knows(self, hosts: list[str]) -> bool:
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d+)?", hosts[0].lower()) if len(hosts) == 1 else None
        return match is not None and (match[1] in self._names or (self._addresses and _is_address(match[1])))


def _of_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of the host that it goes to, or from no page."""
    origin = headers.get("origin")
    return origin is None or origin.lower() in (f"{scheme}://{headers['host'].lower()}" for scheme in ("http", "https"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
