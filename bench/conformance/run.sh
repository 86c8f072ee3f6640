#!/usr/bin/env bash
# The conformance kit's tables for docs/reference/conformance.md: this gateway, LiteLLM's proxy, the bare local server.
#   bash bench/conformance/run.sh llmwise|litellm|local
# LiteLLM is the one of bench/rig (`bash bench/rig/setup.sh` installs it); the local server is the gateway's own model's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
llmwise=${LLMWISE:-$root/.venv/bin/llmwise}
case ${1:-llmwise} in
  llmwise) "$llmwise" conformance --markdown ;;
  litellm)
    log=$(mktemp)
    LITELLM_LOCAL_MODEL_COST_MAP=True NO_PROXY='*' "$here/../rig/venv-litellm/bin/litellm" \
      --config "$here/litellm.yaml" --host 127.0.0.1 --port 9501 >"$log" 2>&1 &
    trap 'kill $!' EXIT
    until curl -sf -o /dev/null http://127.0.0.1:9501/health/liveliness; do sleep 1; done
    "$llmwise" conformance --base-url http://127.0.0.1:9501 --api-key sk-conformance --upstream-port 9500 --markdown \
      --dialect chat --dialect responses --dialect anthropic \
      -m openai=conformance-openai -m anthropic=conformance-anthropic -m gemini=conformance-gemini ;;
  local)
    "$root/.venv/bin/python" "$here/local_server.py" "$llmwise" ;;
esac
