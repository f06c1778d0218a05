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
# Where that is the one in .venv, as in a shell that has activated it, the one that it was made with: .venv may be made anew.
find_python() {
    local candidate reason reasons=''
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.13 python3.12 python3.11 python3 python; fi
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if reason=$("$candidate" - "$venv" 2>&1 <<'PROBE'
import importlib.util
import os
import sys

version = ".".join(map(str, sys.version_info[:3]))
needed = ("venv", "ensurepip", "sqlite3", "ssl", "zlib")
if sys.version_info < (3, 11):
    sys.exit(f"is Python {version}")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"is Python {version} without the module {', '.join(missing)}")
inside = os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1])
print(sys._base_executable if inside else sys.executable)
PROBE
        ); then
            printf '%s\n' "$reason"
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

# Prints a part of the lock: `serving`, the `local model`, or `tests`, which is what only tests need.
_locked() { awk -v title="# $1" '/^#/ { inside = $0 == title; next } inside' "$root/requirements.lock"; }

# What an environment with a part of the lock is made of. A moved checkout is a stale one too: the paths inside a virtual
# environment are absolute.
_stamp() {
    case $1 in
        serving) printf '%s\n' "$root" && _locked serving && _locked 'local model' ;;
        tests) _locked tests ;;
    esac
}
_has() { [ -x "$python" ] && [ -e "$venv/$1.stamp" ]; }
_is_installed() { _has "$1" && cmp -s "$venv/$1.stamp" <(_stamp "$1"); }
_project_is_installed() { cmp -s "$venv/project.stamp" "$root/pyproject.toml"; }
_all_is_installed() {
    _project_is_installed || return
    local part
    for part; do _is_installed "$part" || return; done
}

# Nothing is fetched but what the lock names: no resolution, no newer pip, no build environment.
_pip_install() {
    pip_said=$("$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "$@" 2>&1)
}

_give_up() {
    printf '%s\n' "$pip_said" >&2
    say "could not be installed: pip says why above"
    exit 1
}

# Makes .venv if it is missing or stale, with what serving needs; `ensure_env tests`: and with what only tests need. That
# is added to what is there, and stays there for whoever only serves. Two commands started at once wait for each other.
ensure_env() {
    set -- serving "$@"
    if _all_is_installed "$@"; then return; fi
    local base part
    base=$(find_python)
    exec 9<"$root/pyproject.toml"
    "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' # the shell's descriptor keeps the lock
    for part; do
        if _has "$part" && ! _is_installed "$part"; then rm -rf -- "$venv"; fi
    done
    for part; do
        if ! _is_installed "$part"; then
            "_install_$part" "$base"
            _stamp "$part" >"$venv/$part.stamp"
        fi
    done
    if ! _project_is_installed; then
        _pip_install --no-build-isolation --editable "$root" || _give_up
        cp -- "$root/pyproject.toml" "$venv/project.stamp"
    fi
    exec 9<&-
}

_install_serving() {
    say "making .venv with $("$1" --version) ($1)"
    rm -rf -- "$venv"
    "$1" -m venv -- "$venv"
    _install_part serving
    _install_local_model
}

_install_tests() { _install_part tests; }

_install_part() {
    _locked "$1" >"$venv/lock"
    say "installing $(grep -c == "$venv/lock") packages for $1, as locked"
    _pip_install --require-hashes --requirement "$venv/lock" || _give_up
}

# A platform without wheels of the local model does without that.
_install_local_model() {
    _locked 'local model' >"$venv/lock"
    say "installing the local model (130 MB)"
    if ! _pip_install --require-hashes --only-binary :all: --requirement "$venv/lock"; then
        case $pip_said in
            *Retrying*) _give_up ;; # the network's failure, which pip ends in the same words as the next
            *"No matching distribution found"*)
                say "the local model has no wheels for this platform: going on without it" ;;
            *) _give_up ;;
        esac
    fi
}
