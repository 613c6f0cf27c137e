"""Turning what was measured into what the policy sees. The controller and the learner both call these.

A frame reaches the policy as the very JPEG bytes that are logged, so training from a log sees what the live
policy saw, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from spec.arrays import Bytes, Float, Float32
from spec.manifest import ImageInput, StateFeature


def decode_jpeg(jpeg: bytes | memoryview | Bytes) -> Bytes:
    """JPEG → BGR uint8, shape (height, width, 3).

    Raises:
        ValueError: not a readable JPEG.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"not a readable JPEG ({len(jpeg)} bytes)")
    return np.asarray(image, dtype=np.uint8)


def encode_jpeg(image: Bytes, quality: int) -> bytes:
    """BGR uint8 (height, width, 3) → JPEG."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"image of shape {image.shape} cannot be encoded")
    return bytes(data)


def policy_image(image: Bytes, wanted: ImageInput) -> Bytes:
    """BGR frame → RGB uint8 (wanted.height, wanted.width, 3), area-averaged, aspect not kept."""
    small = cv2.resize(image, (wanted.width, wanted.height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def policy_state(position: Float, velocity: Float, features: Sequence[StateFeature]) -> Float32:
    """Concatenate the state features of all joints, in manifest order. Shapes (..., joints) → (..., S)."""
    parts = {StateFeature.POSITION: position, StateFeature.VELOCITY: velocity}
    return np.concatenate([parts[feature] for feature in features], axis=-1).astype(np.float32)
