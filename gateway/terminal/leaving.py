"""How a command leaves: with one line that says what is wrong, or quietly when it was told to or nobody reads it any more."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

import click

from gateway.config import ConfigErrors


class Unable(Exception):
    """There is nothing to show; the message says why, in one line for a person."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Say in one line what is wrong, and leave."""
    click.echo(f"weir: {message}", err=True)
    sys.exit(code)


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """Tell every reason for which there is nothing to see in one line. Ctrl-C, or a reader who has had enough, is none."""
    try:
        yield
        sys.stdout.flush()
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        sys.exit(2)
    except Unable as error:
        fail(str(error))
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes when it leaves has nowhere to go either
