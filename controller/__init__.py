"""The hard-timed loop and the processes around it."""
