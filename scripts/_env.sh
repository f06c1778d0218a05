# Sourced by the commands beside it. Finds a Python, makes .venv in the checkout and keeps it in step with the lock.
# Written for bash 3.2, which macOS still ships. PIP_… settings are pip's to read and are left as they are.

set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python

# An empty HOME would make "~" the root of the file system; without one, pip asks the user database.
[ -n "${HOME:-}" ] || unset HOME

say() { printf 'manent: %s\n' "$*" >&2; }

# Prints the path of a Python that will do: $PYTHON if it is set, else the first that PATH holds. Fails with the reasons.
find_python() {
    local candidate reason reasons=''
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.13 python3.12 python3.11 python3 python; fi
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if reason=$("$candidate" - 2>&1 <<'PROBE'
import importlib.util
import sys

version = ".".join(map(str, sys.version_info[:3]))
needed = ("venv", "ensurepip", "sqlite3", "ssl", "zlib")
if sys.version_info < (3, 11):
    sys.exit(f"is Python {version}")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"is Python {version} without the module {', '.join(missing)}")
PROBE
        ); then
            command -v "$candidate"
            return
        fi
        reasons="$reasons
  $candidate ($(command -v "$candidate")) $(printf '%s' "$reason" | tail -n 1)"
    done
    say "needs Python 3.11 or newer with venv, ensurepip and sqlite3, and found none.${reasons:-
  There is no ${PYTHON:-python3}.}
On Debian and Ubuntu: apt-get install python3 python3-venv
Elsewhere: install Python, or name one: PYTHON=/path/to/python3"
    return 1
}

# A moved checkout is a stale one too: the paths inside a virtual environment are absolute.
_lock_stamp() { printf '%s\n' "$root" && cat -- "$root/requirements.lock"; }
_lock_is_installed() { [ -x "$python" ] && cmp -s "$venv/lock.stamp" <(_lock_stamp); }
_project_is_installed() { cmp -s "$venv/project.stamp" "$root/pyproject.toml"; }

# Nothing is fetched but what the lock names: no resolution, no newer pip, no build environment.
_pip_install() {
    pip_said=$("$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "$@" 2>&1)
}

_give_up() {
    printf '%s\n' "$pip_said" >&2
    say "could not be installed: pip says why above"
    exit 1
}

# Makes .venv if it is missing or stale; two commands started at once wait for each other.
ensure_env() {
    if _lock_is_installed && _project_is_installed; then return; fi
    local base
    base=$(find_python)
    exec 9<"$root/pyproject.toml"
    "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' # the shell's descriptor keeps the lock
    if ! _lock_is_installed; then
        _make_venv "$base"
        _install_lock
        _lock_stamp >"$venv/lock.stamp"
    fi
    if ! _project_is_installed; then
        _pip_install --no-build-isolation --editable "$root" || _give_up
        cp -- "$root/pyproject.toml" "$venv/project.stamp"
    fi
    exec 9<&-
}

_make_venv() {
    say "making .venv with $("$1" --version) ($1)"
    rm -rf -- "$venv"
    "$1" -m venv -- "$venv"
}

# The lock is installed in two parts: a platform without wheels of the local model does without that.
_install_lock() {
    "$python" - "$root" "$venv" <<'SPLIT'
import re
import sys
import tomllib
from pathlib import Path

root, parts = map(Path, sys.argv[1:])
project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
local = tuple(re.match(r"[\w.-]+", need)[0] + "==" for need in project["optional-dependencies"]["local"])
pins = re.split(r"^(?=\w)", (root / "requirements.lock").read_text("utf-8"), flags=re.MULTILINE)
(parts / "lock.main").write_text("".join(pin for pin in pins if not pin.startswith(local)), "utf-8")
(parts / "lock.local").write_text("".join(pin for pin in pins if pin.startswith(local)), "utf-8")
SPLIT
    say "installing $(grep -c == "$venv/lock.main") packages as locked (about a minute, this once)"
    _pip_install --require-hashes --requirement "$venv/lock.main" || _give_up
    say "installing the local model (130 MB)"
    if ! _pip_install --require-hashes --only-binary :all: --requirement "$venv/lock.local"; then
        case $pip_said in
            *Retrying*) _give_up ;; # the network's failure, which pip ends in the same words as the next
            *"No matching distribution found"*)
                say "the local model has no wheels for this platform: going on without it" ;;
            *) _give_up ;;
        esac
    fi
}
