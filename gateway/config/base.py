"""What every part of the configuration is: frozen, closed to unknown keys, and deaf to keys left empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


@dataclass(frozen=True)
class Reading:
    """The circumstances of reading a file: paths in it are relative to `folder`. Absent when values are built in Python."""

    folder: Path


class Part(BaseModel):
    """One mapping of routes.yaml."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _forget_empty_keys(cls, given: Any) -> Any:
        """Take `key:` with nothing after it as the key left out, as a reader does; an unknown one stays, to be refused."""
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in cls.model_fields}
