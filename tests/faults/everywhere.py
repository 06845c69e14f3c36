"""One story told in every dialect at the same time: for what takes a second of real time in each."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.scripts import answer
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import in_rounds


async def in_every_dialect(story: Callable[[Tongue], Awaitable[Any]]) -> None:
    """Tell it in all of them, in rounds; what fails is raised together, each failure with the name of its dialect."""
    await in_rounds(lambda: _in_one_round(story))


async def _in_one_round(story: Callable[[Tongue], Awaitable[Any]]) -> None:
    ends = await asyncio.gather(*map(story, TONGUES.values()), return_exceptions=True)
    failures = [end for end in ends if isinstance(end, BaseException)]  # pytest.fail raises no Exception
    for name, end in zip(TONGUES, ends, strict=True):
        if isinstance(end, BaseException):
            end.add_note(f"in the dialect {name}")
    if failures:
        raise BaseExceptionGroup("in some dialects", failures)


def opened(tongue: Tongue, *pieces: Any) -> Any:
    """Return an answer that begins with what comes before the first token, and says these pieces then: see `answer`."""
    return answer(tongue, b"".join(tongue.preamble), *(piece for piece in pieces if piece != b""))
