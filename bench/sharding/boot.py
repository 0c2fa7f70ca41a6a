"""A CUDA device that does nothing, for CPU builds of torch: with it autograd runs on fake CUDA tensors.

Two small libraries are compiled once with g++ and loaded before torch: accelerator.cpp says that the accelerator is
CUDA, guard.cpp is the device's guard and hooks. No CUDA call is ever made.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def boot() -> None:
    """Compile and load the libraries around torch's own, in the order in which their symbols must be found.

    Raises:
        RuntimeError: torch is not installed.
        subprocess.CalledProcessError: there is no working g++.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("torch is not installed")
    torch = Path(spec.origin).parent
    folder = (
        Path(tempfile.gettempdir()) / f"null-cuda-{os.getuid()}-{hashlib.sha256(str(torch).encode()).hexdigest()[:10]}"
    )
    folder.mkdir(exist_ok=True)
    accelerator = _compiled(folder, torch, "accelerator")
    guard = _compiled(folder, torch, "guard", f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu")
    ctypes.CDLL(str(accelerator), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(torch / "lib" / "libtorch_global_deps.so"), ctypes.RTLD_GLOBAL)
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(torch / "lib" / name))
    ctypes.CDLL(str(guard))


def _compiled(folder: Path, torch: Path, name: str, *libraries: str) -> Path:
    library = folder / f"lib{name}.so"
    if not library.exists():
        include = torch / "include"
        fresh = folder / f"lib{name}.{os.getpid()}.so"
        flags = ["-std=c++20", "-O1", "-shared", "-fPIC", f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
        subprocess.check_call(["g++", *flags, str(HERE / f"{name}.cpp"), "-o", str(fresh), *libraries])
        fresh.replace(library)
    return library
