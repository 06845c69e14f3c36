"""The words of one live stream, where its route keeps them: gathered while it runs, told when it ends, or before to who reads along."""

import asyncio
import codecs
from collections.abc import Callable
from typing import Literal

import msgspec

from gateway.config import Route
from gateway.core.blobs import lightened
from gateway.core.content import MAX_PROMPT, Content, drawn
from gateway.core.messages import FromWorker, Said, Spoke
from gateway.core.record import StreamRecord
from gateway.stream.delivered import Fresh
from gateway.stream.transcript import Transcript

PIECE = 16 * 1024
"""Bytes of text in one message to who reads along."""
PIECES_A_TICK = 8


class Words:
    """What was asked, and what the upstream that was chosen has said so far; `transcript` is that of no upstream until one is.

    Under `content: sampled` every stream's words are gathered, for whether it goes wrong is known at its end.
    """

    __slots__ = ("_prompt", "transcript")

    def __init__(self, prompt: bytes) -> None:
        self._prompt = prompt
        self.transcript = Transcript()

    @classmethod
    async def of(cls, route: Route, body: bytes, record: StreamRecord) -> "Words":
        """Begin to keep the words of a stream; a large body is made lighter in a thread, for no other stream shall wait for it."""
        record.content = route.content == "full" or drawn(record.trace_id, route.content_share)
        return cls(await asyncio.to_thread(lightened, body) if len(body) > MAX_PROMPT else body)

    def listen(self, choices: int, unseen: str | None) -> Transcript:
        """Return what takes down the answer of one upstream; `unseen` is a text where it goes on with the answer so far."""
        if unseen is None:
            return Transcript(choices)
        return Transcript(choices, self.transcript, Fresh(unseen))

    def choose(self, transcript: Transcript | None) -> None:
        """Say whose words are the client's from here on."""
        if transcript is not None:
            transcript.join()
            self.transcript = transcript

    def settle(self, record: StreamRecord) -> Said | None:
        """Return what is to be kept of a stream that has ended, and say in its record whether anything is."""
        record.content = record.content or record.outcome != "completed" or record.stalled
        if not record.content:
            return None
        said = self.transcript
        content = Content(
            prompt=self._prompt[:MAX_PROMPT],
            prompt_cut=len(self._prompt) > MAX_PROMPT,
            text=said.text("text"),
            reasoning=said.text("reasoning"),
            refusal=said.text("refusal"),
            tools=said.tools(),
            cuts=said.steps(),
            seams=[seam.characters for seam in record.seams],
            cut=said.full or bool(record.parser_errors),
        )
        return Said(record.stream_id, msgspec.msgpack.encode(content))


class Follower:
    """Tells what a live stream says, from its beginning on, a bounded piece at a time; one of those that the watch sweeps."""

    __slots__ = ("_decoders", "_read", "_stream_id", "_tell", "_told", "_words")

    def __init__(self, stream_id: str, words: Words, tell: Callable[[FromWorker], None]) -> None:
        self._stream_id, self._words, self._tell = stream_id, words, tell
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")() for kind in ("text", "reasoning")}
        self._read = dict.fromkeys(self._decoders, 0)
        self._told = dict.fromkeys(self._decoders, 0)

    def tick(self, now: float) -> None:  # noqa: ARG002 - the shape of everything that is watched
        """Tell what is new, as far as one look may."""
        self._go_on("reasoning", PIECES_A_TICK)
        self._go_on("text", PIECES_A_TICK)

    def finish(self) -> None:
        """Tell all the rest: nothing more will be said."""
        self._go_on("reasoning", None)
        self._go_on("text", None)

    def silence(self, now: float) -> float:  # noqa: ARG002 - likewise
        return 0.0

    def _go_on(self, kind: Literal["text", "reasoning"], most: int | None) -> None:
        new = self._words.transcript.said(kind, self._read[kind], PIECE * most if most else None)
        self._read[kind] += len(new)
        for at in range(0, len(new), PIECE):
            text = self._decoders[kind].decode(new[at : at + PIECE])  # a character that is cut waits for its rest
            self._tell(Spoke(self._stream_id, kind, self._told[kind], text))
            self._told[kind] += len(text)
