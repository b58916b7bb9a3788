# Sourced by the other scripts: one virtual environment, .venv, that holds exactly what a lock says.
# Expects to be run in the project's folder.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

is_recent_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Prints the first Python of version 3.11 or newer; PYTHON, when set, is the only candidate.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if is_recent_python "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed; found: $("${PYTHON:-python3}" --version 2>&1 || true)." \
        "Install one, or name it: PYTHON=/path/to/python3.12 ${0##*/}"
}

make_venv() {
    local python
    python=$(find_python) || exit 1
    say "Making .venv with $("$python" --version) ..."
    rm -rf .venv
    "$python" -m venv .venv >&2 ||
        die "The virtual environment could not be made; on Debian and Ubuntu: apt-get install python3-venv"
}

# install_lock LOCK: makes .venv hold exactly the lock; takes no time when it does already.
install_lock() {
    if ! is_recent_python .venv/bin/python; then
        make_venv
    elif cmp -s "$1" .venv/installed.txt; then
        return
    fi
    rm -f .venv/installed.txt
    say "Installing $1 ..."
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --retries 2
        --require-hashes --requirement)
    # uv brings its own list of trusted certificates and does not read pip's settings; where the machine's network
    # needs those, pip does the whole work.
    { "${pip[@]}" locks/bootstrap.txt &&
        VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip sync --quiet --system-certs --require-hashes "$1"; } >&2 ||
        { say "Trying with pip alone ..." && "${pip[@]}" "$1" >&2; } ||
        die "The packages could not be installed. The first start needs the network (or a mirror in pip's settings)."
    cp "$1" .venv/installed.txt
}
