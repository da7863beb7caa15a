#!/usr/bin/env bash
# Health of the container: status 0 if all its services work, otherwise one line on stdout and status 1.
#
# Mode "node": the services run, the master reaches this node, and each server that it has given to it is active. Mode
# "attached": the services run, and the OMERO server accepts connections.
set -euo pipefail
# shellcheck source=startup/functions.sh
source "${STARTUP_FOLDER:=$(dirname -- "${BASH_SOURCE[0]}")}/functions.sh"

MODE=${BIOMEROWORKER_MODE:-node}
STATE=${STARTUP_STATE_FOLDER:-/tmp/biomeroworker-startup}

unhealthy() {
    printf '%s\n' "${*//[[:cntrl:]]/?}"
    exit 1
}

check_service() {
    local pid
    pid=$(cat -- "$STATE/$1.pid" 2> /dev/null) || unhealthy "$2 is not running"
    # not kill -0: root without the capability KILL can see the process, but not signal it
    [[ -d /proc/$pid ]] || unhealthy "$2 is not running"
}

check_service supervisor "the supervisor"
if [[ $MODE == attached ]]; then
    check_service attach "the attached Processor"
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout 5 bash -c ': <> "/dev/tcp/$0/$1"' "$OMERO_HOST" "${OMERO_PORT:-4064}" 2> /dev/null ||
        unhealthy "$OMERO_HOST does not answer on port ${OMERO_PORT:-4064}"
    exit 0
fi

check_service node "IceGrid's node"
export CONFIG_omero_master_port=${CONFIG_omero_master_port:-4061} OMERO_WORKER_PORT=${OMERO_WORKER_PORT:-4062}
export OMERO_HOST=${OMERO_HOST:-$CONFIG_omero_master_host} OMERO_PORT=${OMERO_PORT:-4064}
# shellcheck source=startup/node.sh
source "$STARTUP_FOLDER/node.sh"
state=$(registration)
case $state in
    up) ;;
    silent) unhealthy "OMERO's master $CONFIG_omero_master_host does not answer" ;;
    *) unhealthy "OMERO's master $CONFIG_omero_master_host reports node $OMERO_WORKER_NAME as $state" ;;
esac
mapfile -t servers < <(list_servers)
(( ${#servers[@]} )) || unhealthy "OMERO's master has given no server to node $OMERO_WORKER_NAME"
for server in "${servers[@]}"; do
    answer=$(ask_master "server state $server") || answer="not known: ${answer%%$'\n'*}"
    [[ $answer == active* ]] || unhealthy "$server is ${answer%%$'\n'*}"
done
