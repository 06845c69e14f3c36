"""Knows a text token again without parsing it: a frame that differs from one already read in nothing but its text."""

import re
from collections.abc import Callable, Sequence

from gateway.core.events import Delta, Event
from gateway.wire.framing import Frame

TEXT = re.compile(rb'(?=[^"])[^"\\\x00-\x1f]*+(?>\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
"""JSON text, some at least, that ends where it seems to end: every quote and line end in it escaped, and no half of a surrogate pair."""
PROBE = "~likeness~"

Read = Callable[[Frame], Sequence[Event]]


class Likeness:
    """The bytes before and after the text of a frame.

    Two frames with the same bytes before and after, and JSON text between, have the same JSON structure, so the second says what
    the first said with another text. That saves the parsing of nearly every chunk: half the cost of observing.
    """

    __slots__ = ("_after", "_before", "_high", "_low")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._low, self._high = len(before), len(after)

    def holds(self, data: bytes) -> bool:
        """Tell whether `data`, one read that begins at a boundary, is one such frame and nothing else."""
        return (
            data.startswith(self._before)
            and data.endswith(self._after)
            and TEXT.fullmatch(data, self._low, len(data) - self._high) is not None
        )


def learn(frame: Frame, events: Sequence[Event], read: Read) -> Likeness | None:
    """Return the likeness of a frame that is one text token, or None when its text cannot be told from the rest.

    The claim is tried before it is believed: with another text in its place the frame must say that text and nothing else.
    """
    if len(events) != 1 or type(event := events[0]) is not Delta or event.kind != "text":
        return None
    text = b'"%b"' % event.text.encode("utf-8", "replace")
    if frame.raw.count(text) != 1 or not frame.raw.endswith(b"\n\n"):
        return None
    before, _, after = frame.raw.partition(text)
    before, after, probe = before + b'"', b'"' + after, PROBE.encode()
    tried = Frame(before + probe + after, frame.data.replace(text, b'"%b"' % probe), frame.name)
    return Likeness(before, after) if list(read(tried)) == [Delta("text", PROBE, event.index)] else None
