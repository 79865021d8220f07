# Sourced by scripts/run and scripts/test: makes .venv when it is missing or stale, and puts it first on the PATH.
# QP_PYTHON chooses the interpreter (default python3), QP_VENV the folder (default .venv in the repository).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ensure_venv() {
  local venv=${QP_VENV:-$root/.venv} python=${QP_PYTHON:-python3}
  local want have=""
  want=$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)
  [ -f "$venv/.qp_installed" ] && have=$(cat "$venv/.qp_installed")
  if [ "$want" != "$have" ] || [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      { echo "qp_runner needs Python 3.11 or newer; set QP_PYTHON to one" >&2; exit 2; }
    echo "Setting up $venv (once; PyTorch is large)" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -c "$root/constraints.txt" -e "$root[dev]" >&2
    echo "$want" > "$venv/.qp_installed"
  fi
  export PATH="$venv/bin:$PATH"
}
