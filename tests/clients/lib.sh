# What the client suites share. To be sourced; the caller has `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
binary=${PARTYWALL_BIN:-$target/release/partywall}
mkdir -p "$target"
# On the disk of the build: /tmp may be memory.
work=$(mktemp -d "$target/clients.XXXXXX")
started=()

# Ends what this script started, by its id, and removes its folder.
finish() {
    local status=$?
    for id in "${started[@]}"; do
        kill "$id" 2>/dev/null && wait "$id" 2>/dev/null || true
    done
    if [ "$status" -ne 0 ] && [ -s "$work/partywall.log" ]; then
        echo "── the end of partywall's log"
        tail -n 40 "$work/partywall.log"
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

# python_with FOLDER REQUIREMENTS [OPTION…]: makes a virtual environment and says where its Python
# is. It is made anew only when the requirements change.
python_with() {
    local folder=$1 requirements=$2
    shift 2
    if ! cmp -s "$requirements" "$folder/installed.txt"; then
        python3 -m venv --clear "$folder" >&2
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" -r "$requirements" >&2
        cp "$requirements" "$folder/installed.txt"
    fi
    echo "$folder/bin/python"
}

# all_python_with FOLDER REQUIREMENTS: the same for requirements that name all they need, by uv, which
# is much faster where there are many. Where uv does not reach the registry, pip may.
all_python_with() {
    local folder=$1 requirements=$2 uv=$target/clients/uv/bin/uv
    if ! cmp -s "$requirements" "$folder/installed.txt"; then
        python_with "$target/clients/uv" "$root/tests/clients/uv-requirements.txt" >/dev/null
        python3 -m venv --clear "$folder" >&2
        "$uv" pip install --quiet --no-deps --python "$folder/bin/python" -r "$requirements" >&2 ||
            "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps \
                -r "$requirements" >&2
        cp "$requirements" "$folder/installed.txt"
    fi
    echo "$folder/bin/python"
}

# start_gateway [OPTION…]: starts a quickstart on free ports and exports what the SDKs read.
start_gateway() {
    # Somebody's own key must not turn a test into a bill.
    env -u OPENAI_API_KEY "$binary" quickstart --json --data "$work/data" --port 0 --admin-port 0 \
        "$@" >"$work/quickstart.json" 2>"$work/partywall.log" &
    local id=$!
    started+=("$id")
    local variables
    for _ in $(seq 300); do
        if variables=$(python3 - "$work/quickstart.json" 2>/dev/null <<'PYTHON'
import json, shlex, sys
made = json.load(open(sys.argv[1]))
tenant = next(one for one in made["tenants"] if one["name"] == "acme")
for name, value in {
    "OPENAI_BASE_URL": made["base_url"],
    "OPENAI_API_KEY": tenant["key"],
    "PARTYWALL_TENANT": tenant["name"],
    "PARTYWALL_ADMIN_URL": made["admin_url"],
    "PARTYWALL_OPERATOR_KEY": made["operator_key"],
}.items():
    print(f"export {name}={shlex.quote(value)}")
PYTHON
        ); then
            eval "$variables"
            return
        fi
        if ! kill -0 "$id" 2>/dev/null; then
            echo "partywall ended before it was ready"
            return 1
        fi
        sleep 0.1
    done
    echo "partywall was not ready within 30 seconds"
    return 1
}
