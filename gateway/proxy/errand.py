"""What one call becomes for one upstream: the same bytes where both speak one family of dialects, else the same said in another's words."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import quote

from msgspec import Struct, structs

from gateway.config import Target
from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Prompt
from gateway.dialects import DIALECTS
from gateway.dialects.base import Dialect, Outgoing
from gateway.proxy.headers import translatable
from gateway.proxy.plane import Live
from gateway.proxy.upstream import Pool
from gateway.stream.delivered import Continuing

log = logging.getLogger("weir.proxy")
LARGE = 256 * 1024
"""A body above this takes longer to translate than a stream may be kept waiting for."""


class Errand(Struct, frozen=True):
    """One call on its way to one target.

    `call` is what the upstream's answer answers, in the upstream's `dialect`, and `out` what is sent for it. `asks_usage`: a usage
    frame in the answer is there for us alone. `dropped` names what the target was not told. `voice` is who says the answer where it goes on
    with one that another target began.
    """

    dialect: Dialect
    call: Call
    out: Outgoing
    asks_usage: bool
    translated: bool = False
    dropped: tuple[str, ...] = ()
    voice: Continuing | None = None


class Errands:
    """The errands of one call, each translation made once; one of a large call is made ahead, in a thread, where no stream waits for it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._known: dict[tuple[str, str | None], Errand | Rejected] = {}

    async def prepare(self, order: Iterable[Target]) -> None:
        """Translate the call, in a thread, for the targets that it must be translated for."""
        for target in order:
            if self._foreign(target):
                with suppress(Rejected):
                    await asyncio.to_thread(self.make, target)

    def make(self, target: Target) -> Errand:
        """Return the errand for a target; raises `core.errors.Rejected` that names what the target's dialect cannot express."""
        live, pool = self._live, self._live.setup.pools[target.upstream]
        dialect = DIALECTS[pool.config.dialect]
        if not self._foreign(target):
            asks = live.route.usage == "inject" and not pool.refuses_usage and dialect.injects_usage(live.call)
            return Errand(dialect, live.call, dialect.outgoing(live.call, target.model, asks), asks)
        key = (dialect.name, target.model)
        if key not in self._known:
            try:
                self._known[key] = self._translated(target, dialect)
            except Rejected as refusal:
                self._known[key] = refusal
        if isinstance(errand := self._known[key], Rejected):
            raise errand
        return errand

    def _translated(self, target: Target, dialect: Dialect) -> Errand:
        return translated(self._live, target, dialect, lambda prompt: prompt)

    def _foreign(self, target: Target) -> bool:
        dialect = DIALECTS[self._live.setup.pools[target.upstream].config.dialect]
        return dialect.family != self._live.dialect.family


def translated(live: Live, target: Target, dialect: Dialect, change: Callable[[Prompt], Prompt]) -> Errand:
    """Say a call, changed, in another dialect; raises `core.errors.Rejected`."""
    try:
        prompt = change(structs.replace(live.prompt(), model=target.model or live.call.model))
        call, dropped = dialect.compose(prompt), tuple(dialect.unsaid(prompt))
        return Errand(dialect, call, dialect.outgoing(call, None, False), asks_usage=False, translated=True, dropped=dropped)
    except Rejected:
        raise
    except RecursionError as error:
        raise Rejected("the request body is nested too deeply to be translated", code="untranslatable") from error
    except Exception as error:
        log.error("stream %s: the gateway failed to translate this call (%s)", live.record.stream_id, type(error).__name__)
        raise Rejected("the gateway failed to translate this call", code="untranslatable", status=500) from error


def request_for(live: Live, errand: Errand, pool: Pool) -> list[bytes]:
    """Return the request as it goes on the wire: head and body, with the upstream's own credentials.

    Headers of the client win over the dialect's defaults, those of the configuration over both.
    """
    upstream, out = pool.config, errand.out
    said = live.headers
    if errand.translated:
        said = [*translatable(said), ("Content-Type", "application/json")]
    if out.headers:
        named = {name.lower() for name, _ in said}
        said = [*said, *(header for header in out.headers if header[0].lower() not in named)]
    headers = [*(header for header in said if header[0].lower() not in pool.added), *upstream.headers.items()]
    if upstream.api_key is not None:
        headers += errand.dialect.credential(upstream.api_key.get_secret_value()).items()
    if upstream.trace:
        headers.append(("traceparent", f"00-{live.record.trace_id}-{live.record.span_id}-{live.record.sampled:02x}"))
        if live.record.tracestate:
            headers.append(("tracestate", live.record.tracestate))
    path = pool.prefix + out.path
    if upstream.api_version and "api-version=" not in path:
        path += f"{'&' if '?' in path else '?'}api-version={quote(upstream.api_version, safe='')}"
    if pool.signer is not None:
        headers += pool.signer.sign("POST", pool.address + path, dict(headers), out.body).items()
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    head = f"POST {path} HTTP/1.1\r\nHost: {pool.host}\r\n{lines}Accept-Encoding: identity\r\nContent-Length: {len(out.body)}\r\n\r\n"
    # aiohttp reads headers so: a client's odd bytes come out as they went in
    return [head.encode("utf-8", "surrogateescape"), out.body]
