"""For all tests: machines are slow and noisy, so drawn examples have no time limit."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
