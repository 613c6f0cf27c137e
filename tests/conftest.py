"""Tests by example have no time limit of their own: on a busy machine it would judge the machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("cadenza", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cadenza")
