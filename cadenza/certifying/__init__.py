"""Certifying the timing of this machine: the daemon with cyclictest beside it, plain and under stress."""
