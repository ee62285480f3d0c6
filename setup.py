"""Builds the Cython core: one extension module a file in ext/btfast, the hash kernels of ext/kernels linked into _hashing.

Environment: BTFAST_DEBUG=1 turns assertions and bounds checks on; BTFAST_SANITIZE=1 adds ASan and UBSan;
BTFAST_EXT=_ring,_arena builds only those modules.
"""

import os
import platform
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("BTFAST_DEBUG") == "1"
SANITIZE = os.environ.get("BTFAST_SANITIZE") == "1"
ONLY = set(filter(None, os.environ.get("BTFAST_EXT", "").split(",")))

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")

# A kernel's file name ends in the instruction set it needs. Only that file is compiled with the flags, and
# _hashing calls it only after CPUID has said yes: one wheel runs on every machine of its architecture.
KERNEL_FLAGS = {
    "avx512": (X86, ["-mavx512f", "-mavx512bw", "-mavx512vl"]),
    "avx2": (X86, ["-mavx2"]),
    "shani": (X86, ["-msha", "-msse4.1", "-mssse3"]),
    "armv8": (ARM, ["-march=armv8-a+crypto"]),
}

CFLAGS = ["-O3", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-parameter"]
LDFLAGS: list[str] = []
if DEBUG:
    CFLAGS = [*CFLAGS, "-O1", "-g", "-UNDEBUG"]
if SANITIZE:
    CFLAGS = [*CFLAGS, "-O1", "-g", "-UNDEBUG", "-fsanitize=address,undefined"]
    CFLAGS = [*CFLAGS, "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
    LDFLAGS = ["-fsanitize=address,undefined"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG or SANITIZE,
    "wraparound": False,
    "initializedcheck": DEBUG or SANITIZE,
    "cdivision": not (DEBUG or SANITIZE),
    "overflowcheck": False,
    "freethreading_compatible": False,
}


class BuildKernels(build_ext):
    """Compiles each kernel with its own target flags before the extension that links it."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == "btfast._hashing":
            for source in sorted(Path("ext/kernels").glob("*.c")):
                wanted, flags = KERNEL_FLAGS.get(source.stem.rsplit("_", 1)[-1], (True, []))
                if wanted:
                    ext.extra_objects += self.compiler.compile(
                        [str(source)],
                        output_dir=self.build_temp,
                        include_dirs=["ext/kernels"],
                        extra_postargs=[*CFLAGS, *flags],
                    )
        super().build_extension(ext)


def modules() -> list[Extension]:
    patterns = ("ext/btfast/*.pxd", "ext/btfast/*.pxi", "ext/btfast/*.h", "ext/kernels/*")
    headers = [str(path) for pattern in patterns for path in Path().glob(pattern)]
    return [
        Extension(
            f"btfast.{source.stem}",
            [str(source)],
            include_dirs=["ext/btfast", "ext/kernels"],
            depends=headers,
            extra_compile_args=CFLAGS,
            extra_link_args=LDFLAGS,
        )
        for source in sorted(Path("ext/btfast").glob("*.pyx"))
        if not ONLY or source.stem in ONLY
    ]


setup(
    ext_modules=cythonize(
        modules(),
        include_path=["ext"],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
        show_all_warnings=False,
    ),
    cmdclass={"build_ext": BuildKernels},
)
