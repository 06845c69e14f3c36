"""What holds for every test: Hypothesis judges what comes out, never how long a busy machine took for it."""

from hypothesis import settings

settings.register_profile("weir", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("weir")
