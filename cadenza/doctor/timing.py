"""The certificate of timing: whether anybody has measured that this PC holds the loop's rate."""

from __future__ import annotations

from cadenza.doctor.finding import Finding, failure, warning, well
from controller.certificate import read_certificate
from spec.errors import CadenzaError
from spec.robot import Realtime, Robot


def check_certificate(robot: Robot) -> Finding:
    """Valid, or why not."""
    bad = failure if robot.control.realtime is Realtime.ENFORCE else warning
    fix = "cadenza certify --minutes 5 --config ROBOT_FILE"
    try:
        certificate = read_certificate(robot)
        why = None if certificate is None else certificate.valid_for(robot)
    except CadenzaError as error:
        return bad("certificate", "cannot be used", str(error), fix)
    if certificate is None:
        return bad("certificate", "none", "nobody has measured that this PC holds the rate", fix)
    if why is not None:
        return bad("certificate", f"of {certificate.made}, not valid any more", why, fix)
    late = certificate.stress.p99_9
    return well("certificate", f"of {certificate.made}: {certificate.rate_hz:g} Hz, p99.9 {late:.0f} µs under stress")
