"""Soft actor-critic over chunks: targets, objectives, one update."""
