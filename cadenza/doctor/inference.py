"""Which of ONNX Runtime's providers really compute here: being listed is not being able to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from cadenza.doctor.finding import Finding, failure, warning, well

_GRAPH = (
    b'\x08\x08\x12\x00:@\n\x11\n\x01x\n\x01x\x12\x01y"\x06MatMul\x12\x01gZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n'
    b"\x02\x08\x02\n\x02\x08\x02b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
"""y = x·x for a 2×2 matrix, as an ONNX model of opset 17; the robot PC has no package to build one with."""
_CPU, _GPUS = "CPUExecutionProvider", ("CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider")
_SILENT = 4
"""ONNX Runtime's log level above errors: what it complains about is what we find."""
_NVIDIA = Path("dev/nvidiactl")


def computes(provider: str) -> str | None:
    """Why a provider does not compute; None where it does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    try:
        session = onnxruntime.InferenceSession(_GRAPH, options, providers=[provider])
        x = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
        (y,) = session.run(None, {"x": x})
    except Exception as error:  # noqa: BLE001 (ONNX Runtime raises whatever the provider's libraries do)
        return " ".join(str(error).split()) or type(error).__name__
    if session.get_providers()[0] != provider:
        return "it falls back to the CPU: some library of it is missing, or of another version"
    return None if np.allclose(y, x @ x) else "it computes something else"


def check_inference(
    root: Path, providers: Sequence[str] | None = None, attempt: Callable[[str], str | None] = computes
) -> list[Finding]:
    """CPU and graphics processors.

    Args:
        root: ``/``; another folder in tests.
        providers: those that ONNX Runtime has been built with.
        attempt: as :func:`computes`.
    """
    listed = onnxruntime.get_available_providers() if providers is None else providers
    broken = attempt(_CPU)
    findings = [
        well("inference, CPU", f"ONNX Runtime {onnxruntime.__version__} computes")
        if broken is None
        else failure("inference, CPU", "does not compute", broken, "pip install -c constraints.txt --force-reinstall .")
    ]
    card = (root / _NVIDIA).exists()
    offered = [provider for provider in _GPUS if provider in listed]
    if card and "CUDAExecutionProvider" not in offered:
        fix = "pip uninstall onnxruntime; pip install -c constraints.txt onnxruntime-gpu"
        findings.append(
            warning("inference, GPU", "card present, not used", "this ONNX Runtime is for the CPU only", fix)
        )
    for provider in offered:
        if not card and provider == "CUDAExecutionProvider":
            findings.append(well("inference, GPU", "no card here; the CPU is used"))
        elif (why := attempt(provider)) is None:
            findings.append(well("inference, GPU", f"{provider.removesuffix('ExecutionProvider')} computes"))
        else:
            fix = "nvidia-smi shows the driver; pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries"
            findings.append(warning("inference, GPU", f"{provider} listed, not usable", why, fix))
    return findings
