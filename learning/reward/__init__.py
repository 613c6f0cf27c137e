"""Reward from pictures: a small classifier of success, trained from labelled episodes."""
