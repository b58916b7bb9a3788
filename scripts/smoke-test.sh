#!/usr/bin/env bash
# smoke-test.sh [URL]: is the service up? Asks its health, which fails when no calls are made, a self-test route
# and the database for recent runs.
# URL is the origin; without it API_URL counts, then http://127.0.0.1:PORT, then port 8000. Takes less than 5 s; exits 1
# and says why when something is wrong.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=.venv/bin/python
[ -x "$python" ] || python=python # in a container
url=${1:-${API_URL:-http://127.0.0.1:${PORT:-8000}}}

result=0
# report NAME COMMAND...: runs the command, and says whether it went well.
report() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then
        echo "ok    $name"
    else
        echo "FAIL  $name: $said"
        result=1
    fi
}
# Strict: calls have to be made, too.
report "public health" "$python" -m cronicorn.probe "${url%/}/api/health?strict" 1.5
report "synthetic health" "$python" -m cronicorn.probe "${url%/}/api/synthetic/health" 1.5
report "recent runs" "$python" manage.py synthetic_health --recent
exit $result
