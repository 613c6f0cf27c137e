"""Sequence behaviour cloning: windows of demonstrations, the loss, the warm-up."""
