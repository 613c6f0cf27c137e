"""Processes that take the place of hardware in measurements of the whole daemon: an arm, cameras, a policy."""
