"""Times in the past as people write them."""

from datetime import UTC, datetime

from pydantic_core import PydanticCustomError

from gateway.config.values import read_duration


def moment(text: str, now: float) -> float:
    """Return Unix seconds of an age (`1d`, `90m`), a date or time in ISO 8601 (UTC unless it says otherwise), or of Unix seconds.

    Raises ValueError, whose message is for who wrote it.
    """
    try:
        age = read_duration(text)
        return now - float(str(age))
    except PydanticCustomError:
        pass
    try:
        at = float(text)
        if abs(at) < 1e12:  # not a number, or milliseconds
            return at
    except ValueError:
        pass
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "must be an age such as 1d or 90m, a date such as 2026-03-01, a time such as 2026-03-01T10:05, or Unix seconds"
        ) from None
    return (said if said.tzinfo is not None else said.replace(tzinfo=UTC)).timestamp()
