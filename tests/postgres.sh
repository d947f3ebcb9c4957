#!/usr/bin/env bash
# A PostgreSQL server of one's own for tests, on loopback, in a folder that goes with it.
#
#   tests/postgres.sh run COMMAND…   runs COMMAND with PARTYWALL_TEST_POSTGRES set to its address
#   tests/postgres.sh serve PORT     serves until its parent ends; prints its address once it is ready
#
# PARTYWALL_POSTGRES_PROGRAMS names the folder of another server's programs.
set -euo pipefail

# The newest that is installed: Debian keeps its programs out of PATH.
programs=${PARTYWALL_POSTGRES_PROGRAMS:-}
[ -n "$programs" ] || programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$programs" ] || programs=$(dirname "$(command -v initdb || true)")
if [ ! -x "$programs/postgres" ]; then
    echo "PostgreSQL is not installed: apt-get install postgresql" >&2
    exit 1
fi

# PostgreSQL does not run as root.
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    as_server=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi

make_cluster() {
    folder=$(mktemp -d /tmp/partywall-postgres.XXXXXX)
    [ "${#as_server[@]}" -eq 0 ] || chown postgres "$folder"
    printf 'owner-of-the-tests' >"$folder.password"
    chmod 644 "$folder.password"
    (cd / && "${as_server[@]}" "$programs/initdb" --pgdata="$folder/data" --username=owner \
        --auth=scram-sha-256 --pwfile="$folder.password" --encoding=UTF8 --locale=C \
        --no-sync --no-instructions >/dev/null)
    rm "$folder.password"
    # A server that was built without TLS has none.
    if "$programs/pg_config" --configure | grep -Eq -- '--with-(open)?ssl'; then
        make_certificates
        echo "ssl = on" >>"$folder/data/postgresql.conf"
    fi
    # What is lost with the machine is not missed; what a crash of a process must keep is kept.
    cat >>"$folder/data/postgresql.conf" <<EOF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
max_connections = 400
shared_buffers = 64MB
log_min_messages = fatal
EOF
}

# An authority, ca.pem, which tests find beside the server's data, and by it the server's certificate,
# for 127.0.0.1 alone.
make_certificates() {
    local made="$folder.certificates"
    mkdir "$made"
    local new=(openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2)
    "${new[@]}" -subj "/CN=authority of the tests" -keyout "$made/ca.key" -out "$made/ca.pem" \
        -addext keyUsage=critical,keyCertSign 2>/dev/null
    "${new[@]}" -subj /CN=127.0.0.1 -keyout "$made/server.key" -out "$made/server.crt" \
        -CA "$made/ca.pem" -CAkey "$made/ca.key" -addext subjectAltName=IP:127.0.0.1 \
        -addext basicConstraints=critical,CA:FALSE 2>/dev/null
    cp "$made/ca.pem" "$folder/"
    cp "$made/server.key" "$made/server.crt" "$folder/data/"
    chmod 600 "$folder/data/server.key"
    [ "${#as_server[@]}" -eq 0 ] || chown postgres "$folder/data/server.key" "$folder/data/server.crt"
    rm -r "$made"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

address() {
    echo "postgres://owner:owner-of-the-tests@127.0.0.1:$1/postgres"
}

wait_until_ready() {
    for _ in $(seq 600); do
        if "$programs/pg_isready" --quiet --host=127.0.0.1 --port="$1"; then return; fi
        sleep 0.05
    done
    echo "PostgreSQL did not start" >&2
    exit 1
}

case "${1:-}" in
run)
    shift
    make_cluster
    port=$(free_port)
    (cd / && exec "${as_server[@]}" "$programs/postgres" -D "$folder/data" -p "$port" >/dev/null 2>&1) &
    server=$!
    trap 'kill -INT "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$folder"' EXIT
    wait_until_ready "$port"
    PARTYWALL_TEST_POSTGRES=$(address "$port") "$@"
    ;;
serve)
    make_cluster
    cd /
    (wait_until_ready "$2" && address "$2") &
    # The folder goes when the server has ended.
    setsid bash -c "while kill -0 $$ 2>/dev/null; do sleep 1; done; rm -rf '$folder'" \
        >/dev/null 2>&1 </dev/null &
    exec setpriv --pdeathsig INT "${as_server[@]:1}" "$programs/postgres" -D "$folder/data" -p "$2" \
        2>/dev/null
    ;;
*)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
