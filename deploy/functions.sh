# shellcheck shell=bash
# What backup.sh and restore.sh share. Sourced, not run.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # for those who source this
MANIFEST=MANIFEST.sha256
# Services with a PostgreSQL database. The log of runs is dumped first: what it names is then in the later dump of OMERO.
DATABASES=(database-biomero database)

log() {
    printf '%s: %s\n' "$PROGRAM" "$*" >&2
}

fail() {
    log "error: $*"
    exit 1
}

# Call Compose for the project of this repository. COMPOSE names another command; the files are those of COMPOSE_FILE (.env).
compose() {
    if [[ -z ${COMPOSE:-} ]]; then
        if docker compose version > /dev/null 2>&1; then
            COMPOSE="docker compose"
        elif command -v docker-compose > /dev/null; then
            COMPOSE=docker-compose
        else
            fail "neither 'docker compose' nor docker-compose is here: install one of them"
        fi
    fi
    local argv
    read -ra argv <<< "$COMPOSE"
    (cd -- "$ROOT" && "${argv[@]}" --project-directory "$ROOT" "$@")
}

# Whether the list that follows has the item $1.
contains() {
    local wanted=$1 item
    shift
    for item; do
        [[ $item != "$wanted" ]] || return 0
    done
    return 1
}

# Set `container` of each service $@.
declare -A container=()
find_containers() {
    local service
    for service; do
        container[$service]=$(compose ps -q "$service") || fail "Compose does not answer: see the lines above"
        [[ -n ${container[$service]} ]] || fail "$service has no container: docker-compose up -d $service"
    done
}

# Run the shell command $2 in the container of the database service $1, with what it needs to log in. Further arguments
# are its $1, $2, ... The password comes from the container's own secret; it is in no argument.
in_database() {
    local service=$1 script=$2
    shift 2
    # shellcheck disable=SC2016  # expanded in the container
    docker exec -i "${container[$service]}" sh -c '
        [ ! -f "${POSTGRES_PASSWORD_FILE:-}" ] || PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
        export PGPASSWORD="${PGPASSWORD:-${POSTGRES_PASSWORD:-}}" PGHOST=127.0.0.1
        export PGUSER="${POSTGRES_USER:-postgres}" DATABASE="${POSTGRES_DB:-${POSTGRES_USER:-postgres}}"
        export PGCONNECT_TIMEOUT=10 PGOPTIONS="-c client_min_messages=warning"
        '"$script" sh "$@"
}

# Start the database services $@ if needed and wait until they answer.
start_databases() {
    local service deadline
    compose up -d --no-deps --no-recreate "$@" 1>&2 || fail "the database services do not start: see the lines above"
    find_containers "$@"
    for service; do
        deadline=$(( SECONDS + 120 ))
        # shellcheck disable=SC2016  # expanded in the container
        until in_database "$service" 'exec psql -X -q -d "$DATABASE" -c "select 1"' > /dev/null 2>&1 < /dev/null; do
            (( SECONDS < deadline )) || fail "$service does not answer within 120 s: docker-compose logs $service"
            sleep 1
        done
    done
}

# Print the services of the project that have a database.
database_services() {
    local defined service
    defined=$(compose config --services) || fail "Compose cannot read the project: see the lines above"
    for service in "${DATABASES[@]}"; do
        ! grep -qxF -- "$service" <<< "$defined" || echo "$service"
    done
}
