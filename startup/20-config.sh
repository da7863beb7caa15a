#!/usr/bin/env bash
# Read secrets from files, check the variables and the configuration. An error is one line, and status 1.
#
# Sourced by entrypoint.sh, so that the variables reach the scripts that follow; run alone it only checks.
set -euo pipefail
# shellcheck source=startup/functions.sh
source "${STARTUP_FOLDER:-$(dirname -- "${BASH_SOURCE[0]}")}/functions.sh"

# Variables that may come from a file: NAME_FILE names it.
SECRETS=(SQLALCHEMY_URL OMERO_PASSWORD BIOMERO_SMTP_PASSWORD BIOMERO_WEBHOOK_SECRET INGEST_TRACKING_DB_URL)

# Set the variable $1 to the content of the file that $1_FILE names.
read_secret() {
    local name=$1 variable=$1_FILE
    local file=${!variable:-} value
    [[ -n $file ]] || return 0
    [[ -z ${!name:-} ]] || fail "$name and $variable are both set; keep one of them"
    [[ -e $file ]] || fail "$variable: there is no file $file; mount the secret there"
    [[ -f $file ]] || fail "$variable: $file is not a file; mount the secret there"
    [[ -r $file ]] ||
        fail "$variable: uid $(id -u) cannot read $file ($(stat -L -c 'uid %u, mode %a' -- "$file")); change its owner or mode"
    value=$(tr -d '\r\0' < "$file")
    [[ -n $value ]] || fail "$variable: $file is empty"
    [[ $value != *$'\n'* ]] || fail "$variable: $file has more than one line"
    export "$name=$value"
    unset "$variable"
}

require() {
    [[ -n ${!1:-} ]] || fail "$1 is not set: $2"
}

# Fail unless the function $2 accepts the value of the variable $1; $3 describes a valid value.
check() {
    "$2" "${!1}" || fail "$1=${!1@Q} is not $3"
}

is_worker_name() {
    [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ && $1 != internal ]]
}

require_program() {
    command -v "$1" > /dev/null || fail "the program $1 is missing in this image; mode $BIOMEROWORKER_MODE needs it"
}

check_node() {
    require_program icegridnode
    require_program icegridadmin
    require CONFIG_omero_master_host "the host name of OMERO's master, where its registry answers on port 4061"
    require OMERO_WORKER_NAME "the name of this node in omero.server.nodedescriptors, such as biomeroworker"
    export CONFIG_omero_master_port=${CONFIG_omero_master_port:-4061}
    check CONFIG_omero_master_host is_host "a host name or an address"
    check CONFIG_omero_master_port is_port "a port"
    check OMERO_WORKER_NAME is_worker_name "a node name: letters, digits, dots, - and _, at most 63, and not \"internal\""
    [[ -z ${OMERO_MASTER_WAIT_SECONDS:-} ]] || check OMERO_MASTER_WAIT_SECONDS is_number "a number of seconds"
    export OMERO_WORKER_PORT=${OMERO_WORKER_PORT:-4062}
    check OMERO_WORKER_PORT is_port "a port"
    if [[ -n ${OMERO_WORKER_PUBLISHED_HOST:-} ]]; then
        export OMERO_WORKER_PUBLISHED_HOST OMERO_PROCESSOR_PORT=${OMERO_PROCESSOR_PORT:-4065}
        check OMERO_WORKER_PUBLISHED_HOST is_host "a host name or an address"
    fi
    if [[ -n ${OMERO_PROCESSOR_PORT:-} ]]; then
        check OMERO_PROCESSOR_PORT is_port "a port"
        [[ $OMERO_PROCESSOR_PORT != "$OMERO_WORKER_PORT" ]] ||
            fail "OMERO_PROCESSOR_PORT and OMERO_WORKER_PORT are both $OMERO_WORKER_PORT; each needs a port of its own"
    fi
    # omero-py looks for the server's folder there.
    export OMERODIR=${OMERO_SERVER_FOLDER:-/opt/omero/server/OMERO.server}
    # Scripts and the supervisor log in where the master is, unless another address is given.
    export OMERO_HOST=${OMERO_HOST:-$CONFIG_omero_master_host}
}

check_attached() {
    require OMERO_HOST "the host name of the OMERO server"
    export OMERO_USER=${OMERO_USER:-root}
    require OMERO_PASSWORD "the password of $OMERO_USER on $OMERO_HOST; or OMERO_PASSWORD_FILE, a file that has it"
}

check_configuration() {
    local file variable found=0
    for variable in BIOMERO_CONFIG BIOMERO_SLURM_CONFIG_FILE; do
        file=${!variable:-}
        [[ -n $file ]] || continue
        [[ -f $file ]] || fail "$variable: there is no file $file; mount the ini file there"
        found=1
    done
    # Docker makes a folder where the file of a bind mount is missing on the host.
    for file in "${SLURM_CONFIG_ETC:-/etc/slurm-config.ini}" /OMERO/slurm-config.ini "$HOME/slurm-config.ini"; do
        [[ ! -d $file ]] || fail "$file is a folder, not an ini file: the file that is mounted there is missing on the host"
        [[ -e $file ]] || continue
        [[ -r $file ]] ||
            fail "uid $(id -u) cannot read $file ($(stat -L -c 'uid %u, mode %a' -- "$file")); change its mode on the host"
        found=1
    done
    (( found )) ||
        fail "there is no configuration; mount your slurm-config.ini, for instance: -v ./slurm-config.ini:/etc/slurm-config.ini:ro"
    local errors
    if ! errors=$("$BIOMEROWORKER_VENV/bin/biomeroworker" config show 2>&1 > /dev/null); then
        errors=${errors#error: }
        fail "the configuration cannot be used: ${errors//$'\n'/; }"
    fi
}

export BIOMEROWORKER_VENV=${BIOMEROWORKER_VENV:-/opt/biomeroworker}
case :$PATH: in
    :"$BIOMEROWORKER_VENV/bin":*) ;;
    *) export PATH=$BIOMEROWORKER_VENV/bin:$PATH ;;
esac
export BIOMEROWORKER_MODE=${BIOMEROWORKER_MODE:-node}
for name in "${SECRETS[@]}"; do
    read_secret "$name"
done
case $BIOMEROWORKER_MODE in
    node) check_node ;;
    attached) check_attached ;;
    *) fail "BIOMEROWORKER_MODE=${BIOMEROWORKER_MODE@Q} is neither node nor attached" ;;
esac
if [[ -n ${OMERO_HOST:-} ]]; then
    check OMERO_HOST is_host "a host name or an address"
fi
export OMERO_PORT=${OMERO_PORT:-4064}
check OMERO_PORT is_port "a port"
check_configuration
