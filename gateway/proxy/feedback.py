"""The door for feedback: what somebody thinks of an answer is checked, told to the recorder, and answered at once."""

import json
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.core.errors import GatewayError, Rejected
from gateway.core.messages import Feedback
from gateway.dialects import lenient
from gateway.dialects.base import Dialect
from gateway.proxy.body import read_small_body
from gateway.proxy.doors import JSON, Params
from gateway.proxy.plane import Plane
from gateway.proxy.rejoin import STREAM_ID

PATH = "/v1/feedback"
MOST_COMMENT = 2000
MOST_BODY = 32 * 1024
"""The longest comment, each character escaped as two halves of six bytes, and room for the rest."""
Fate = Literal["kept", "dropped", "by_route"]
"""What becomes of a comment: `by_route` where another worker's or a past stream's route decides."""


class _Said(Struct, forbid_unknown_fields=True):
    stream_id: str
    score: Literal[-1, 0, 1]
    comment: str | None = None


class Listener:
    """Takes feedback on any stream: whose it is, and whether there is such a stream, the recorder knows."""

    def __init__(self, plane: Plane, dialect: Dialect) -> None:
        self._plane, self._dialect = plane, dialect

    async def __call__(self, request: web.BaseRequest, _: Params) -> web.StreamResponse:
        try:
            said = read(await read_small_body(request, self._plane.config.server.body_timeout, MOST_BODY))
        except GatewayError as error:
            refusal = web.Response(status=error.status, body=self._dialect.error_body(error), headers=JSON)
            if error.hangs_up:
                refusal.force_close()
            return refusal
        fate = None if said.comment is None else self._fate(said.stream_id)
        self._plane.tell(Feedback(said.stream_id, said.score, None if fate == "dropped" else said.comment))
        body = json.dumps({"stream_id": said.stream_id, "score": said.score, "comment": fate}).encode()
        return web.Response(status=202, body=body, headers=JSON)

    def _fate(self, stream_id: str) -> Fate:
        """Say what becomes of a comment on a stream. What no route can keep does not even leave this process."""
        config = self._plane.config
        carrier = self._plane.live.get(stream_id) or self._plane.shelf.find(stream_id)
        if carrier is not None:
            return "kept" if config.keeps_content(carrier.record.route) else "dropped"
        return "by_route" if any(config.keeps_content(route.name) for route in config.routes) else "dropped"


def read(body: bytes) -> _Said:
    """Read what was said; raises `core.errors.Rejected` for what is no feedback."""
    found = lenient.read_object(body)
    try:
        said = msgspec.convert(found, _Said)
    except msgspec.ValidationError as error:
        raise Rejected(f"this is no feedback: {lenient.encodable(str(error)[:200])}", code="invalid_feedback") from None
    if not STREAM_ID.fullmatch(said.stream_id):
        raise Rejected("`stream_id` must be what the header x-weir-stream-id of an answer said", code="invalid_stream_id")
    if said.comment is not None:
        if len(said.comment) > MOST_COMMENT:
            raise Rejected(f"`comment` is longer than {MOST_COMMENT} characters", code="comment_too_long")
        said.comment = lenient.encodable(said.comment)
    return said
