#!/usr/bin/env bash
# Run the services of this container and restart each when it ends: IceGrid's node (mode "node") or the attached
# Processor (mode "attached"), and the supervisor. SIGTERM stops all and ends with status 0.
#
# This process is PID 1 of the container: it collects the orphans that its services leave.
set -euo pipefail
# shellcheck source=startup/functions.sh
source "${STARTUP_FOLDER:=$(dirname -- "${BASH_SOURCE[0]}")}/functions.sh"

MODE=${BIOMEROWORKER_MODE:-node}
VENV=${BIOMEROWORKER_VENV:-/opt/biomeroworker}
# A file with the process id of each service, for healthcheck.sh.
STATE=${STARTUP_STATE_FOLDER:-/tmp/biomeroworker-startup}

RESTART_DELAY_SECONDS=${RESTART_DELAY_SECONDS:-2}
RESTART_DELAY_LIMIT_SECONDS=${RESTART_DELAY_LIMIT_SECONDS:-30}
RESTART_LIMIT=${RESTART_LIMIT:-5}
# After such a time without a failure, the failures of a service are counted from zero again.
RESTART_RESET_SECONDS=${RESTART_RESET_SECONDS:-60}
STOP_SECONDS=${STOP_SECONDS:-12}
# Time between two checks of the services.
TICK_SECONDS=${TICK_SECONDS:-0.5}
# Status of a service that must not be started again.
readonly GIVE_UP=78

if [[ $MODE == node ]]; then
    # shellcheck source=startup/node.sh
    source "$STARTUP_FOLDER/node.sh"
fi

# Each service is a function `service_NAME`, run by a process of this script in a session of its own: the id of the session
# is that of the process, and what it starts stays in the session.

service_attach() {
    exec "$VENV/bin/biomeroworker" attach
}

service_supervisor() {
    join_grid
    exec "$VENV/bin/biomeroworker" supervise
}

stopping=0
declare -A pid since failures due
declare -A title=(
    [node]="IceGrid's node" [registration]="the check of the registration"
    [attach]="the attached Processor" [supervisor]="the supervisor"
)

start() {
    setsid bash "${BASH_SOURCE[0]}" "$1" &
    pid[$1]=$!
    since[$1]=$SECONDS
    echo "$!" > "$STATE/$1.pid"
}

# Processes of the session $1, without zombies.
session_members() {
    local file stat fields
    for file in /proc/[0-9]*/stat; do
        { read -r stat < "$file"; } 2> /dev/null || continue
        read -ra fields <<< "${stat##*) }" # state, parent, group, session
        [[ ${fields[3]} != "$1" || ${fields[0]} == [ZX] ]] || { file=${file#/proc/}; echo "${file%/stat}"; }
    done
}

# Whether the leader of the session $1, or any other process of it, runs.
runs() {
    kill -0 "$1" 2> /dev/null || [[ -n $(session_members "$1") ]]
}

signal_session() {
    local members
    mapfile -t members < <(session_members "$2")
    (( ! ${#members[@]} )) || kill "-$1" "${members[@]}" 2> /dev/null || true
}

# End what a dead service left running: a new IceGrid node would start its servers a second time.
end_leftovers() {
    local deadline=$(( SECONDS + 5 ))
    signal_session TERM "$1"
    while (( SECONDS < deadline && ! stopping )); do
        [[ -n $(session_members "$1") ]] || return 0
        pause 0.1
    done
    signal_session KILL "$1"
}

# The service $1 ended with status $2: start it again later, or give up.
ended() {
    local name=$1 status=$2 delay
    rm -f -- "$STATE/$name.pid"
    if (( status == GIVE_UP )); then
        stop_all 1
    fi
    end_leftovers "${pid[$name]}"
    if (( SECONDS - since[$name] >= RESTART_RESET_SECONDS )); then
        failures[$name]=0
    fi
    failures[$name]=$(( ${failures[$name]:-0} + 1 ))
    unset "pid[$name]"
    if [[ $name == node || $name == attach ]] && (( failures[$name] > RESTART_LIMIT )); then
        log "error: ${title[$name]} ended ${failures[$name]} times in a row, the last time with status $status: see the" \
            "lines above; stopping"
        stop_all 1
    fi
    delay=$(( failures[$name] > 6 ? RESTART_DELAY_LIMIT_SECONDS : RESTART_DELAY_SECONDS << (failures[$name] - 1) ))
    (( delay <= RESTART_DELAY_LIMIT_SECONDS )) || delay=$RESTART_DELAY_LIMIT_SECONDS
    due[$name]=$(( SECONDS + delay ))
    log "${title[$name]} ended with status $status; starting it again in $delay s"
}

# Stop every service, wait, kill what is left, and exit with status $1.
stop_all() {
    trap '' TERM INT HUP
    local name deadline=$(( SECONDS + STOP_SECONDS ))
    for name in "${!pid[@]}"; do
        kill -TERM "${pid[$name]}" 2> /dev/null || true
    done
    for name in "${!pid[@]}"; do
        while runs "${pid[$name]}"; do
            if (( SECONDS >= deadline )); then
                log "${title[$name]} did not stop within $STOP_SECONDS s: killed"
                break
            fi
            pause 0.1
        done
        signal_session KILL "${pid[$name]}"
    done
    rm -rf -- "$STATE"
    log "stopped"
    exit "$1"
}

# Wait $1 seconds without a child process.
pause() {
    read -r -t "$1" -u "$never" || true
}

main() {
    local services=(supervisor) name status
    case $MODE in
        node) services+=(node registration); write_node_files ;;
        attached) services+=(attach) ;;
    esac
    rm -rf -- "$STATE"
    mkdir -p -- "$STATE"
    chmod 700 -- "$STATE"
    exec {never}<> <(:)
    # Only a note: bash runs traps within `read`, whose time limit would end what the trap does.
    trap 'stopping=1' TERM INT HUP
    for name in "${services[@]}"; do
        start "$name"
    done
    while pause "$TICK_SECONDS"; (( ! stopping )); do
        for name in "${services[@]}"; do
            if [[ -z ${pid[$name]:-} ]]; then
                (( SECONDS < due[$name] )) || start "$name"
            elif ! kill -0 "${pid[$name]}" 2> /dev/null; then
                status=0
                wait "${pid[$name]}" || status=$?
                ended "$name" "$status"
            fi
        done
    done
    stop_all 0
}

if (( $# )); then
    "service_$1"
else
    main
fi
