"""Pictures and sound in a request's body: long base64 in JSON strings, replaced by how many bytes it was and their hash."""

import binascii
import hashlib
import re

SHORTEST = 1024
"""Characters; what is shorter may stay."""
STEP = 64 * 1024
"""Characters decoded at a time, a multiple of four: this may run in a thread beside a loop, which gets the interpreter in between."""
_PREFIX = re.compile(rb"data:[\w.+/;=-]{0,100}?base64,")
_ESCAPED = ((b"\\/", b"/"), (b"\\n", b""), (b"\\r", b""))
_KINDS = (re.compile(rb"[A-Z]"), re.compile(rb"[a-z]"), re.compile(rb"[0-9]"))


def lightened(body: bytes) -> bytes:
    """Return a JSON text without its long base64 strings: `[base64: 48213 bytes, sha256 3f0c...]` stands in their place.

    It looks at one place in SHORTEST, and from there for the quotes on either side, so that 20 MiB take milliseconds.
    """
    kept: list[bytes] = []
    start, place = 0, SHORTEST
    while (closing := body.find(b'"', place)) >= 0:
        opening = body.rfind(b'"', start, place)
        if closing - opening > SHORTEST and (said := _told(body[opening + 1 : closing])) is not None:
            kept += (body[start : opening + 1], said)
            start = closing
        place = closing + SHORTEST
    return b"".join(kept) + body[start:] if kept else body


def _told(string: bytes) -> bytes | None:
    """Return what stands for a string, None for one that is not base64."""
    found = _PREFIX.match(string)
    prefix, data = (found[0], string[found.end() :]) if found else (b"", string)
    if not all(kind.search(data, 0, SHORTEST) for kind in _KINDS):
        return None  # a long run of one letter is nobody's picture
    if b"\\" in data:
        for escaped, plain in _ESCAPED:
            data = data.replace(escaped, plain)
    data = data.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    size, digest = 0, hashlib.sha256()
    try:
        for at in range(0, len(data), STEP):
            piece = data[at : at + STEP]
            decoded = binascii.a2b_base64(piece + b"=" * (-len(piece) % 4), strict_mode=True)
            size += len(decoded)
            digest.update(decoded)
    except binascii.Error:
        return None
    return b"%b[base64: %d bytes, sha256 %b]" % (prefix, size, digest.hexdigest().encode())
