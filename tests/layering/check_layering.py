#!/usr/bin/env python3
"""Check the rules of the source tree that a compiler does not check.

Usage: check_layering.py ROOT

- every #include "..." names a file from the repository root and follows the dependency rule
  (docs/architecture.md);
- HDF5, MPI, NCCL and CUDA headers stand in .cpp files only, torch/torch.h nowhere;
- every plug-in file has its line in the registry of its kind;
- no tensor is made without saying its device;
- nothing refers to a folder outside the repository.
Prints one line per fault and exits 1 if there are any.
"""
import pathlib
import re
import sys

# What each folder may include besides itself.
QUANT = {"src/base", "src/quant"}
PIPELINE = QUANT | {"src/transform", "src/models", "src/recipe", "dist", "io"}
USERS_OF_PIPELINE = PIPELINE | {"src/pipeline"}
ALLOWED = {
    "src/base": set(),
    "src/quant": {"src/base"},
    "src/transform": QUANT,
    "src/models": QUANT | {"src/transform"},
    "src/recipe": QUANT | {"src/transform"},
    "dist": {"src/base"},
    "io": {"src/base"},
    "src/pipeline": PIPELINE,
    "src/eval": USERS_OF_PIPELINE,
    "src/export": USERS_OF_PIPELINE,
    "src/report": USERS_OF_PIPELINE,
    "launch": USERS_OF_PIPELINE | {"src/eval", "src/export", "src/report"},
}
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
SOURCES_ONLY = re.compile(r"^(hdf5|H5\w*|mpi|nccl|cuda\w*)\.h$|^nccl_net\.h$")
TOO_SLOW = {"torch/torch.h", "torch/extension.h", "torch/all.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# Kind of plug-in: files, the registry, and what part of the file's name the registry must hold.
PLUGINS = (
    ("transport", "dist", r"^(\w+)_transport\.cpp$", "dist/registry.cpp"),
    ("checkpoint format", "io", r"^(\w+)_reader\.cpp$", "io/registry.cpp"),
    ("command", "launch", r"^cmd_(\w+)\.cpp$", "launch/commands.cpp"),
)
# Made by name nowhere: the ranks of one process, which tests make themselves.
UNREGISTERED = {"dist/thread_transport.cpp"}
# Kinds that share their folder with helpers: what a plug-in's code shows, and its registry.
BY_CONTENT = (
    ("transform", "src/transform", re.compile(r"^const Kind& \w+_kind\(", re.M),
     "src/transform/registry.cpp"),
    ("family", "src/models", re.compile(r"^FamilyEntry \w+_family\(", re.M),
     "src/models/registry.cpp"),
    ("schedule", "src/pipeline/schedules", re.compile(r"^Plan plan_\w+\(const LearnShape&", re.M),
     "src/pipeline/schedules/registry.cpp"),
    ("export format", "src/export", re.compile(r"^Report export_\w+\(const Job&", re.M),
     "src/export/registry.cpp"),
)
# Makes a tensor from nothing; ..._like takes its device from a tensor.
MAKES_TENSOR = re.compile(
    r"\bat::(empty|empty_strided|zeros|ones|full|arange|linspace|eye|tensor|scalar_tensor|rand|randn"
    r"|randint|randperm|from_blob)\(")
SAYS_DEVICE = re.compile(r"options\b|\bdevice\b|\bkCPU\b|\bkMeta\b|\bon_host\b")
OUTSIDE = re.compile(r"\.\./" + r"shared\b|/work/" + r"shared\b")
TEXT_SUFFIXES = SUFFIXES | {".py", ".sh", ".md", ".txt", ".cmake", ".toml", ".json", ".in",
                            ".sbatch", ".example", ""}


def folder_of(path):
    """The folder of the map that a path from the root lies in, or None."""
    parts = path.split("/")
    for depth in (2, 1):
        if "/".join(parts[:depth]) in ALLOWED:
            return "/".join(parts[:depth])
    return None


def includes(text):
    """Yield (line number, "<" or '"', name)."""
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def check_include(root, path, line, bracket, name):
    """Yield what is wrong with one include of one file."""
    place = f"{path}:{line}"
    if name in TOO_SLOW:
        yield f"{place}: {name} costs 28 s of compile time; include the narrowest ATen header"
    if bracket == "<":
        if path.endswith(".h") and SOURCES_ONLY.match(name):
            yield f"{place}: <{name}> belongs in a .cpp file"
        return
    if not (root / name).is_file():
        yield f'{place}: "{name}" is no file below the repository root'
        return
    here, there = folder_of(path), folder_of(name)
    if there != here and there not in ALLOWED[here]:
        yield f"{place}: {here} must not see {there or name} (docs/architecture.md)"


def product_sources(root):
    for top in ("src", "dist", "io", "launch"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path


def check_includes(root):
    for path in product_sources(root):
        relative = path.relative_to(root).as_posix()
        if folder_of(relative) is None:
            yield f"{relative}: lies in no folder of the map"
            continue
        for line, bracket, name in includes(path.read_text(encoding="utf-8")):
            yield from check_include(root, relative, line, bracket, name)


def in_parentheses(text, start):
    """What stands between the parenthesis before `start` and its partner."""
    depth = 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return text[start:]


def check_devices(root):
    for path in product_sources(root):
        text = path.read_text(encoding="utf-8")
        for match in MAKES_TENSOR.finditer(text):
            if SAYS_DEVICE.search(in_parentheses(text, match.end())):
                continue
            line = text.count("\n", 0, match.start()) + 1
            yield (f"{path.relative_to(root).as_posix()}:{line}: at::{match[1]} says no device: "
                   "pass the options of a tensor that it meets, or at::device(...)")


def registered(root, registry, name, ignored=r"//[^\n]*"):
    path = root / registry
    if not path.is_file():
        return False
    code = re.sub(ignored, "", path.read_text(encoding="utf-8"))
    return re.search(rf"(?<![a-z]){re.escape(name)}s?(?![a-z])", code) is not None


def check_plugins(root):
    for kind, folder, pattern, registry in PLUGINS:
        for path in sorted((root / folder).glob("*.cpp")):
            match = re.match(pattern, path.name)
            relative = path.relative_to(root).as_posix()
            if match and relative not in UNREGISTERED and not registered(root, registry, match[1]):
                yield f"{relative}: {kind} '{match[1]}' has no line in {registry}"
    for kind, folder, shows, registry in BY_CONTENT:
        for path in sorted((root / folder).glob("*.cpp")):
            is_one = path.name != "registry.cpp" and shows.search(path.read_text(encoding="utf-8"))
            # An include alone is no line: these registries may include a header for each plug-in.
            ignored = r"//[^\n]*|#include[^\n]*"
            if is_one and not registered(root, registry, path.stem, ignored):
                yield f"{path.relative_to(root)}: {kind} '{path.stem}' has no line in {registry}"


def check_outside(root):
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in (".git", "build", ".cache") or path.suffix not in TEXT_SUFFIXES:
            continue
        if not path.is_file() or path.stat().st_size > 1 << 20:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in OUTSIDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{relative}:{line}: refers to {match[0]}, which a clone does not have"


def faults(root):
    for check in (check_includes, check_devices, check_plugins, check_outside):
        yield from check(root)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = list(faults(pathlib.Path(sys.argv[1])))
    for fault in found:
        print(fault)
    print(f"{len(found)} faults")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
