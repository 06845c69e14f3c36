"""The `weir` command, and `python -m gateway`: a server to be is deaf to operators' signals before anything else."""

import sys

from gateway.early import hold_signals


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] == ["serve"]:
        hold_signals()
    from gateway.cli import main as weir  # noqa: PLC0415  this is what takes its time

    weir()


if __name__ == "__main__":
    main()
