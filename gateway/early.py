"""What has to happen before the program is read in, which takes most of a second."""

import signal


def hold_signals() -> None:
    """Let what operators signal wait until there is a supervisor to act on it: until then it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
