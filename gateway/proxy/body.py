"""Takes a request's body in: no larger than allowed, no slower than allowed, whole or not at all."""

import asyncio

from aiohttp import web

from gateway.core.errors import BodyBroken, BodyTooLarge, RequestTimeout

SLOWEST = 1024
"""Bytes a second below which an upload is no upload but a way to hold a connection; a phone on a bad network sends more."""


async def read_body(request: web.BaseRequest, patience: float) -> bytes:
    """Read the whole request body, kept as it came; raises what is wrong with it as a `core.errors.Rejected`.

    `patience`, in seconds: within any stretch so long 1024 bytes must come for every second of it, or else its end.
    """
    try:
        if request.content.is_eof():  # it has come with its head, as nearly all do: there is nothing to wait for
            return await request.read()
        return await _arriving(request, patience, request.client_max_size)
    except web.HTTPRequestEntityTooLarge as error:
        raise BodyTooLarge("the request body is larger than server.max_body") from error
    except web.RequestPayloadError as error:
        raise BodyBroken("the request body cannot be read: its chunks or its encoding are broken") from error


async def read_small_body(request: web.BaseRequest, patience: float, limit: int) -> bytes:
    """The same for a body of which no more than `limit` bytes are taken."""
    try:
        body = await (request.read() if request.content.is_eof() else _arriving(request, patience, limit))
    except (web.HTTPRequestEntityTooLarge, BodyTooLarge) as error:
        raise BodyTooLarge(f"the request body is larger than {limit} bytes") from error
    except web.RequestPayloadError as error:
        raise BodyBroken("the request body cannot be read: its chunks or its encoding are broken") from error
    if len(body) > limit:
        raise BodyTooLarge(f"the request body is larger than {limit} bytes")
    return body


async def _arriving(request: web.BaseRequest, patience: float, limit: int) -> bytes:
    content, loop = request.content, asyncio.get_running_loop()
    if (request.content_length or 0) > limit:
        raise BodyTooLarge("the request body is larger than server.max_body")  # said by its head: none of it need come
    body, counted, enough = bytearray(), 0, SLOWEST * patience
    try:
        async with asyncio.timeout(patience) as timer:
            while piece := await content.readany():
                body += piece
                if len(body) > limit:
                    if "Content-Encoding" in request.headers:  # what is still packed would be unpacked only to be thrown away
                        content.set_exception(web.RequestPayloadError("unwanted"))
                    raise BodyTooLarge("the request body is larger than server.max_body")
                if len(body) - counted >= enough:
                    counted = len(body)
                    timer.reschedule(loop.time() + patience)
    except TimeoutError:
        raise RequestTimeout("the request body has not come in time") from None
    return bytes(body)
