#!/usr/bin/env bash
# Build the mock and the load generator, and install the peers that are missing:
#   setup.sh [NAME...]      default: nginx tensorzero litellm; also: rust (rolter and ferrogw)
# Each goes into a folder of its own here (venv-NAME). One that can't be installed is skipped, with the reason.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p bin run logs
PYTHON=${PYTHON:-python3}

for tool in mock lg; do
    [ bin/$tool -nt src/$tool.c ] || "${CC:-cc}" -O2 -Wall -Wno-format-overflow -o bin/$tool src/$tool.c
done

skip() {
    echo "SKIPPED $1: $2"
}

from_pypi() { # venv's name, packages
    local venv=venv-$1
    shift
    [ -e "$venv/installed" ] && return
    echo "installing $* into $venv"
    if "$PYTHON" -m venv "$venv" && "$venv/bin/pip" install -q "$@" >"logs/$venv.log" 2>&1; then
        touch "$venv/installed"
    else
        skip "$venv" "pip install $* failed, see logs/$venv.log"
        rm -rf "$venv"
    fi
}

for peer in "${@:-nginx tensorzero litellm}"; do
    for name in $peer; do
        case $name in
        nginx)
            command -v nginx >/dev/null && continue
            if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
                skip nginx "install it by hand (it is only installed here by root on Debian)"
            elif ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx; } >logs/nginx.apt.log 2>&1; then
                skip nginx "apt-get install nginx failed, see logs/nginx.apt.log"
            fi
            ;;
        tensorzero) from_pypi tensorzero tensorzero ;;
        litellm) from_pypi litellm 'litellm[proxy]' ;;
        rust) from_pypi rust rolter ferrogw ;;
        *) echo "no such peer: $name" >&2 && exit 2 ;;
        esac
    done
done
