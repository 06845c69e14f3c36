"""The fault matrix stands on the rig: one worker, scripted upstreams that speak every dialect, raw clients."""

from tests.rig.fixtures import *  # noqa: F403
