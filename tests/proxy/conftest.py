"""The data plane's tests stand on the rig."""

from tests.rig.fixtures import *  # noqa: F403
