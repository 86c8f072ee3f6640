#!/usr/bin/env bash
# Measure this gateway beside its peers: build, install what is missing, 3 rounds, the table. About 6 minutes.
#   bash bench/rig/run.sh [TARGET...]
#   ROUNDS=3  QUICK=1 (a look, 2 minutes)  OUT=file.jsonl (appended to; default: a new results-TIME.jsonl here)
#   LLMWISE=path of the `llmwise` under test  PYTHON=interpreter for the peers  MOCK_PORT=9100
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bash "$here/setup.sh"
python=${PYTHON:-python3}
[ -x "$here/../../.venv/bin/python" ] && python="$here/../../.venv/bin/python"
rounds=${ROUNDS:-3}
out=${OUT:-$here/results-$(date +%Y%m%d-%H%M%S).jsonl}
exec "$python" "$here/bench.py" run --rounds "$rounds" --out "$out" ${QUICK:+--quick} "$@"
