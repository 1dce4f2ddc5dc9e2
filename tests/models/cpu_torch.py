"""Makes the torch that PyPI has for Linux usable without CUDA.

    python tests/models/cpu_torch.py

That wheel is built for CUDA, and wants two gigabytes of NVIDIA's libraries before it can be
imported, of which a CPU uses nothing. Run in an environment where torch was installed without its
dependencies, this puts libraries in their places that have every name torch asks for, and answer
"no device" to all. Needs a C compiler and readelf. Where torch can be imported already, nothing is
done.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# How the names of NVIDIA's libraries and functions begin.
NVIDIAS = re.compile("_*(cu|nccl|nv)")
# cudaErrorNoDevice; what registers kernels while torch is loaded ignores what it is answered.
SOURCE = "int {0}(void) {{ return 100; }}\n"
IN_WORDS = 'const char *{0}(void) {{ return "no device"; }}\n'
# torch computes, sees no device, and says so by an exception where it is asked about one.
CHECK = """
import torch
assert not torch.cuda.is_available()
assert (torch.ones(3, 4) @ torch.ones(4, 5)).sum() == 60
try:
    torch.cuda.is_current_stream_capturing()
except RuntimeError:
    pass
"""


def works():
    return subprocess.run([sys.executable, "-c", CHECK], capture_output=True).returncode == 0


def lines(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def needed(library):
    """The libraries that one is linked with, and the version names that it asks each of them for."""
    found = {}
    for line in lines("readelf", "--dynamic", "--version-info", "--wide", library):
        if match := re.search(r"\(NEEDED\).*\[(.+)\]", line):
            found.setdefault(match[1], set())
        elif match := re.search(r"Version: \d+  File: (\S+)", line):
            file = match[1]
        elif match := re.search(r"Name: (\S+)  Flags: ", line):
            found.setdefault(file, set()).add(match[1])
    return found


def symbols(library):
    """Names that a library defines, and those it lacks with their versions."""
    defined, lacking = set(), set()
    for line in lines("readelf", "--dyn-syms", "--wide", library):
        fields = line.split()
        if len(fields) < 8 or fields[4] not in ("GLOBAL", "WEAK"):
            continue
        name, _, version = fields[7].partition("@")
        if fields[6] != "UND":
            defined.add(name)
        elif fields[4] == "GLOBAL":
            lacking.add((name, version.strip("@")))
    return defined, lacking


def build(library, names, work):
    """Compiles a library that has NAMES, each with its version."""
    source, versions = work / "stub.c", work / "stub.map"
    functions = (
        (IN_WORDS if re.search("Get.*(String|Name)$", name) else SOURCE).format(name) for name, _ in sorted(names)
    )
    source.write_text("".join(functions))
    by_version = {}
    for name, version in names:
        by_version.setdefault(version, []).append(name)
    script = "".join(
        f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in by_version.items() if version
    )
    versions.write_text(script)
    link = [f"-Wl,--version-script={versions}"] if script else []
    command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}", *link, source, "-o", library]
    subprocess.run(command, check=True)


def main():
    if works():
        return
    folder = Path(importlib.util.find_spec("torch").submodule_search_locations[0]) / "lib"
    missing, defined, lacking = {}, set(), set()
    for library in sorted(folder.glob("*.so*")):
        has, lacks = symbols(library)
        defined |= has
        lacking |= lacks
        for name, versions in needed(library).items():
            if NVIDIAS.match(name.removeprefix("lib")) and not (folder / name).exists():
                missing.setdefault(name, set()).update(versions)
    lacking = {(name, version) for name, version in lacking if name not in defined}
    # Names without a version may be in any of them.
    unversioned = {symbol for symbol in lacking if not symbol[1] and NVIDIAS.match(symbol[0])}
    with tempfile.TemporaryDirectory() as work:
        for name, versions in missing.items():
            wanted = {symbol for symbol in lacking if symbol[1] in versions}
            build(folder / name, wanted | unversioned, Path(work))
            unversioned = set()
    subprocess.run([sys.executable, "-c", CHECK], check=True)


if __name__ == "__main__":
    main()
