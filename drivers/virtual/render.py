"""Pictures of the scene, cheaply: software rendering without shadows, reflections and multisampling."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Self

import mujoco
import numpy as np

from spec.arrays import Bytes
from spec.errors import DeviceError

# Mesa would otherwise spread one picture over every core, the control loop's too.
os.environ.setdefault("LP_NUM_THREADS", "0")

_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX)
_PLATFORMS = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa"}
_MAX_GEOMS = 500


class Renderer:
    """One picture size, any camera of the model. Use from one thread only: the GL context belongs to it.

    Not mujoco.Renderer, because that settles on a GL platform when mujoco is first imported, by whomever; this one
    uses EGL, which needs neither display nor GPU (MUJOCO_GL=osmesa picks the other headless platform).
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        """Raises DeviceError where no GL context can be had."""
        platform = _PLATFORMS.get(os.environ.get("MUJOCO_GL", ""), _PLATFORMS["egl"])
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        try:
            self._gl = import_module(platform).GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # noqa: BLE001  mujoco, PyOpenGL and EGL each raise their own kinds
            raise DeviceError(
                f"virtual camera {width}x{height}: no off-screen rendering ({type(error).__name__}: {error}); "
                f"install EGL (libegl1, libgl1-mesa-dri) or set MUJOCO_GL=osmesa"
            ) from None
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._model = model
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._option, self._view = mujoco.MjvOption(), mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)
        for flag in _OFF:
            self._scene.flags[flag] = 0

    def picture(self, data: mujoco.MjData, camera: str) -> Bytes:
        """What ``camera`` sees: BGR uint8, shape (height, width, 3)."""
        self._gl.make_current()
        self._view.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        return np.ascontiguousarray(self._pixels[::-1, :, ::-1])

    def close(self) -> None:
        self._context.free()
        self._gl.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_cameras(model: mujoco.MjModel, names: Iterable[str]) -> None:
    """Raises DeviceError when the scene lacks one of the cameras."""
    have = [model.camera(k).name for k in range(model.ncam)]
    for name in names:
        if name not in have:
            raise DeviceError(f"virtual camera {name!r}: the scene has none of that name (valid: {', '.join(have)})")
