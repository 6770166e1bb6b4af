# shellcheck shell=bash disable=SC2034
# Functions of the scripts in launch/; sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lrq-dist
model=$cache/models/smollm2-135m
script=launch/$(basename "$0")

# What ccache needs to know of precompiled headers; paths below the clone are told relative to it.
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

say() { printf '%s: %s\n' "$script" "$*"; }

# die WHAT WHERE FIX: end with the three-part message.
die() {
  printf '%s: %s\n  where: %s\n  fix:   %s\n' "$script" "$1" "$2" "$3" >&2
  exit 1
}

# The PyTorch that a user chose instead of the wheel, or nothing.
own_torch() {
  if [[ -n ${Torch_DIR:-} ]]; then
    (cd "$Torch_DIR/../../.." 2>/dev/null && pwd) ||
      die "Torch_DIR leads to no PyTorch" "environment variable Torch_DIR=$Torch_DIR" \
        "set it to .../torch/share/cmake/Torch, or unset it"
  elif [[ -s $cache/torch-root.own ]]; then
    cat "$cache/torch-root.own"
  fi
}

# The pinned list that the virtual environment is made from.
requirements() {
  if [[ -n $(own_torch) ]]; then
    grep -v -e '^torch==' -e '^#' "$root/launch/requirements.txt"
  else
    grep -v '^#' "$root/launch/requirements.txt"
  fi
}

venv_dir() { echo "$cache/venv-$(requirements | sha256sum | cut -c1-12)"; }
venv_python() { echo "$(venv_dir)/bin/python"; }

# The environment of launch/setup --all: it sees the other one's packages, so it hangs on that too.
all_requirements() { grep -v '^#' "$root/launch/requirements-all.txt"; }
all_venv_dir() {
  echo "$cache/venv-all-$({ all_requirements; venv_dir; own_torch; } | sha256sum | cut -c1-12)"
}

torch_root() {
  local own
  own=$(own_torch)
  if [[ -n $own ]]; then
    echo "$own"
  else
    echo "$(venv_dir)"/lib/python3*/site-packages/torch
  fi
}

# configure PRESET [OPTION...]: CMake with the LibTorch and the Python of the set-up.
configure() {
  local preset=$1
  shift
  (cd "$root" && cmake --preset "$preset" -DLRQ_TORCH_ROOT="$(torch_root)" \
    -DPython3_EXECUTABLE="$(venv_python)" "$@")
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  (cd "$root" && cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"})
}

# What mpirun needs to run as root, and with more ranks than cores.  What is shown, measured and tested
# here is the CPU, also where there are GPUs: CUDA sees none of them.
mpi_environment() {
  export CUDA_VISIBLE_DEVICES=
  export OMPI_MCA_rmaps_base_oversubscribe=1
  # Two jobs at once would both bind to the first cores.
  export OMPI_MCA_hwloc_base_binding_policy=none
  if [[ $(id -u) == 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
}

# write_atomically FILE TEXT
write_atomically() {
  printf '%s\n' "$2" >"$1.tmp.$$"
  mv -f "$1.tmp.$$" "$1"
}
