"""Vendors' own names for what spans say already, for their UIs: one table a vendor, opt-in, and nothing that is content.

Every name is one that the vendor documents or its own SDK sends; the first line of each file says where it was found.
"""

from collections.abc import Iterable, Mapping

from gateway.config.model import Mapper
from gateway.telemetry.mappers.futureagi import FUTUREAGI
from gateway.telemetry.mappers.langfuse import LANGFUSE
from gateway.telemetry.mappers.openinference import OPENINFERENCE
from gateway.telemetry.mappers.promptlayer import PROMPTLAYER
from gateway.telemetry.mappers.respan import RESPAN
from gateway.telemetry.spans import Attribute

MAPPERS: Mapping[Mapper, tuple[Attribute, ...]] = {
    "langfuse": LANGFUSE,
    "openinference": OPENINFERENCE,
    "respan": RESPAN,
    "promptlayer": PROMPTLAYER,
    "futureagi": FUTUREAGI,
}


def mapped(mappers: Iterable[Mapper]) -> tuple[Attribute, ...]:
    """Return the rows of these mappers; of a name that two of them have, the first one's."""
    rows: dict[str, Attribute] = {}
    for mapper in mappers:
        for row in MAPPERS[mapper]:
            rows.setdefault(row.name, row)
    return tuple(rows.values())
