"""OpenCV cameras."""
