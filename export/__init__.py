"""Checkpoint to ONNX bundle, with parity."""
