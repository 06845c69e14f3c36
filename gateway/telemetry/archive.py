"""A record as JSON text and back: what the store keeps."""

from math import inf

import msgspec

from gateway.core.record import StreamRecord

_DECODER = msgspec.json.Decoder(StreamRecord)


def freeze(record: StreamRecord) -> str:
    """Return a record as JSON; the gap bound "above everything" is null, since JSON has no infinity."""
    return msgspec.json.encode(record).decode()


def thaw(text: str | bytes) -> StreamRecord:
    """Return the record of a text. Raises msgspec.ValidationError or DecodeError for anything else."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(text)
        cadence = fields.get("cadence") or {}
        cadence["gaps"] = [(inf if bound is None else bound, count) for bound, count in cadence.get("gaps", ())]
        return msgspec.convert(fields, StreamRecord)
