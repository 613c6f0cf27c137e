"""Cameras."""

from drivers.cameras.opencv import OpenCVCamera

__all__ = ["OpenCVCamera"]
