#!/bin/bash
# run.sh BUILD: other people's clients, from PyPI and npm, against the daemon of this build folder: tritonclient, kserve,
# schemathesis, spectral. Prints TAP of each and the totals in automake's words. Needs python3 with venv, npm and the network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
mkdir -p "$build/others"
cd "$build/others"

fetched() { # WHAT FILE COMMAND...: once per content of FILE
    local sum
    sum=$(sha256sum <"$2")
    [ "$(cat "$1.sum" 2>/dev/null)" = "$sum" ] && return
    "${@:3}" >"$1.log" 2>&1 </dev/null || { tail -n 5 "$1.log" >&2; echo "run.sh: $1 cannot be fetched ($build/others/$1.log)" >&2; exit 1; }
    echo "$sum" >"$1.sum"
}
fetched python "$here/requirements.txt" sh -c "python3 -m venv --clear venv && venv/bin/pip install --disable-pip-version-check --no-deps -r '$here/requirements.txt'"
cp "$here/package.json" "$here/package-lock.json" .
fetched node "$here/package-lock.json" npm ci --ignore-scripts --no-audit --no-fund

export ONELIPD=$build/server/onelipd SCHEMATHESIS=$PWD/venv/bin/st SPECTRAL=$PWD/node_modules/.bin/spectral PYTHONDONTWRITEBYTECODE=1
passed=0 failed=0
for test in "$here"/test_*.py; do
    log=$(basename "$test" .py).log
    timeout 900 venv/bin/python "$test" >"$log" 2>&1 </dev/null || echo "not ok - $test ends with status $?" >>"$log"
    grep -A 60 '^not ok' "$log" || true
    passed=$((passed + $(grep -c '^ok' "$log" || true)))
    failed=$((failed + $(grep -c '^not ok' "$log" || true)))
done
printf '# PASS: %d\n# FAIL: %d\n' "$passed" "$failed"
[ "$failed" = 0 ]
