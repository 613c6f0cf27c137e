"""``python -m episodes.schema.generate``: makes the ``*_pb2`` files from the ``.proto`` files.

Needs ``grpcio-tools==1.71.2`` (not a dependency of the project): its output runs on every protobuf from 5.29 on, while
newer compilers demand a runtime as new as themselves.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    """Run the protocol compiler on every schema of this folder."""
    sources = sorted(path.name for path in FOLDER.glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--pyi_out=.", *sources]
    return subprocess.run(command, cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
