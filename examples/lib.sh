# What the examples that start servers share. To be sourced in the example's folder; the caller has
# `set -euo pipefail`. PARTYWALL_BIN names another binary than the release build.

target=${CARGO_TARGET_DIR:-../../target}
partywall=$(realpath "${PARTYWALL_BIN:-$target/release/partywall}")
# Whatever the caller is logged in to is left alone.
unset PARTYWALL_URL PARTYWALL_KEY PARTYWALL_TENANT PARTYWALL_DATA

work=$(mktemp -d)
servers=()
# Ends what was started, by its id, and removes its folder.
finish() {
    if [ "${#servers[@]}" -gt 0 ]; then
        kill "${servers[@]}" 2>/dev/null || true
        wait "${servers[@]}" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

passed=0 failed=0
# check NAME COMMAND…: the command succeeds.
check() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "failed: $name"
    fi
}

# verdict: the last line, and whether all of it held.
verdict() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# wait_for FILE: a server has said where it listens.
wait_for() {
    for _ in $(seq 400); do
        if [ -s "$1" ]; then return; fi
        sleep 0.05
    done
    echo "no server wrote $1" >&2
    cat "$work"/*.log >&2
    exit 1
}

# eventually COMMAND…: it succeeds within ten seconds.
eventually() {
    for _ in $(seq 200); do
        if "$@"; then return; fi
        sleep 0.05
    done
    return 1
}

# field EXPRESSION: of the JSON on standard input, which Python knows as `it`.
field() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }

# engine OPTION…: starts an engine, whose address is in $engine.
engine() {
    "$partywall" simulate --json --listen 127.0.0.1:0 "$@" >"$work/engine.json" 2>"$work/engine.log" &
    servers+=($!)
    wait_for "$work/engine.json"
    engine=$(field "it['base_url']" <"$work/engine.json")
}

# found: a new installation on free ports, which the command line speaks to from here on.
found() {
    export PARTYWALL_DATA=$work/data
    "$partywall" init >/dev/null
    sed -i 's/^gateway = .*/gateway = "127.0.0.1:0"/; s/^admin = .*/admin = "127.0.0.1:0"/' \
        "$work/data/partywall.toml"
}

# serve: starts what was founded; where it serves is in $base_url.
serve() {
    "$partywall" serve --json --config "$work/data/partywall.toml" \
        >"$work/serve.json" 2>"$work/serve.log" &
    servers+=($!)
    wait_for "$work/serve.json"
    base_url=$(field 'it["base_url"]' <"$work/serve.json")
}
