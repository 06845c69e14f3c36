"""The admin API as one asks it: where it is, what it says, and every reason for which it does not, in one line."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, get_args
from urllib.parse import quote, urlsplit

import httpx
import orjson

from gateway.config import Admin as AdminPart
from gateway.config import load_admin
from gateway.core.record import Outcome
from gateway.terminal.ink import word
from gateway.terminal.leaving import Unable
from gateway.wire.sse import Parser

TOKEN = "WEIR_ADMIN_TOKEN"  # noqa: S105 - the variable's name
USUAL = "routes.yaml"
PATIENCE = 5.0
SILENCE = 15.0
"""Seconds after which a feed that says nothing is broken: it speaks at least every five."""
MOST_SAID = 64 << 20
ENDED = ",".join(get_args(Outcome))
"""What `outcome=` of /api/streams is, to be told of ended streams alone."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens everywhere is asked on this machine


class Unanswered(Unable):
    """The admin API gave no answer to use. The message is one line for a person; `status` is HTTP's, 0 when nothing came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether asking again may help: nobody was there, or it was busy or leaving."""
        return self.status == 0 or self.status >= 500


class Place:
    """Where an admin API is, and what to show there. The token is never printed."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            known = False
        if not known:
            raise Unanswered("the admin API's address is a URL such as http://127.0.0.1:8081")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self.token = token or None

    @classmethod
    def of(cls, file: str | None, url: str | None) -> Self:
        """Return the place that a configuration names (`routes.yaml`, if there is one), or `url` instead of it, which is shown no token
        of a configuration that nobody has named. Raises ConfigErrors, Unanswered."""
        said = os.environ.get(TOKEN)
        if file is None and url is not None:
            return cls(url, said)
        admin = AdminPart() if file is None and not Path(USUAL).exists() else load_admin(file or USUAL)
        token = admin.token.get_secret_value() if admin.token is not None else said
        if url is not None:
            return cls(url, token)
        if admin.port == 0:
            raise Unanswered(f"{file or USUAL} leaves admin.port open; say --admin URL, as `weir serve` printed it")
        host = _ANYWHERE.get(admin.host, admin.host)
        return cls(f"http://[{host}]:{admin.port}" if ":" in host else f"http://{host}:{admin.port}", token)


class Admin:
    """A line to one admin API; to be entered and left."""

    def __init__(self, place: Place) -> None:
        self.url, self._known = place.url, place.token is not None
        headers = {b"Authorization": b"Bearer " + place.token.encode()} if place.token is not None else {}
        timeout = httpx.Timeout(PATIENCE, read=SILENCE)
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return what the API answers. Raises Unanswered."""
        with _told(self.url):
            answer = await self._http.get(self.url + path, params=params, timeout=PATIENCE)
            self._check(answer, answer.content)
            return orjson.loads(answer.content)

    async def stream(self, stream_id: str) -> Any:
        """Return one stream's whole record. Raises Unanswered, with the status 404 when there is none."""
        try:
            return await self.get(f"/api/streams/{quote(stream_id, safe='')}")
        except Unanswered as error:
            if error.status == 404:
                raise Unanswered(f"no stream {word(stream_id)[:80]} is live or stored at {self.url}", 404) from None
            raise

    @asynccontextmanager
    async def feed(self, **params: str) -> AsyncIterator[AsyncIterator[Any]]:
        """Follow what goes on: gives the events, which end only by raising Unanswered."""
        with _told(self.url):
            async with self._http.stream("GET", self.url + "/api/live", params=params) as answer:
                if answer.status_code != 200:
                    self._check(answer, await answer.aread())
                yield self._events(answer)

    async def _events(self, answer: httpx.Response) -> AsyncIterator[Any]:
        parser = Parser(MOST_SAID)
        with _told(self.url):
            async for piece in answer.aiter_raw():
                for frame in parser.feed(piece):
                    if frame.data:
                        yield orjson.loads(frame.data)
        raise Unanswered(f"the feed of {self.url} ended")

    def _check(self, answer: httpx.Response, body: bytes) -> None:
        if answer.status_code == 200:
            return
        if answer.status_code == 401:
            wanted = "refuses this token" if self._known else "asks for a token"
            raise Unanswered(f"{self.url} {wanted}: it is admin.token of its configuration, or set {TOKEN}", 401)
        try:
            said = word(orjson.loads(body)["error"])[:300]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            said = f"status {answer.status_code}; is it Weir's admin API?"
        raise Unanswered(f"{self.url}: {said}", answer.status_code)


class _told:  # noqa: N801 - reads as a verb
    """Tells every way in which a line can fail as Unanswered. What the library says of it is not passed on: it may hold headers."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            raise Unanswered(f"nothing listens at {self._url}; is `weir serve` running? -c FILE or --admin URL say where") from None
        if isinstance(error, httpx.TimeoutException):
            raise Unanswered(f"{self._url} does not answer") from None
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise Unanswered(f"the connection to {self._url} broke") from None
        if isinstance(error, orjson.JSONDecodeError):
            raise Unanswered(f"{self._url} does not speak as Weir's admin API does", 200) from None
