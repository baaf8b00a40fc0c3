"""For all tests: no example of hypothesis is timed, as machines are of any speed and busy with other things."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
