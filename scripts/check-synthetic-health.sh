#!/usr/bin/env bash
# Prints the synthetic jobs of the last hour; exits 1 when Core is below 90 % success, a job has no
# runs, or no calls are made now.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
[ -x "$python" ] || python=python # in a container
exec "$python" manage.py synthetic_health
