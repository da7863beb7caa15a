#!/usr/bin/env bash
# Entry point of both images: run the scripts $STARTUP_FOLDER/NN-*.sh in their order.
#
# All but the last are sourced, so that the variables that they export reach the next ones. The last one replaces this
# process: it gets the signals of `docker stop`. With arguments, the command that they name replaces it instead:
# `docker exec NODE biomeroworker-entrypoint biomeroworker runs` sees the same keys and the same secrets as the node.
#
# If the container was started as root, 10-mount-ssh.sh runs as root (it can read keys of any owner) and all else as the
# account.
set -euo pipefail
shopt -s nullglob

STARTUP_FOLDER=${STARTUP_FOLDER:-/startup}
BIOMEROWORKER_ACCOUNT=${BIOMEROWORKER_ACCOUNT:-omero-server}
# shellcheck source=startup/functions.sh
source "$STARTUP_FOLDER/functions.sh"

run_as_account() {
    local entry
    entry=$(getent passwd "$BIOMEROWORKER_ACCOUNT") ||
        fail "there is no account $BIOMEROWORKER_ACCOUNT (BIOMEROWORKER_ACCOUNT) in this image"
    local uid gid home
    IFS=: read -r _ _ uid gid _ home _ <<< "$entry"
    (( uid != 0 )) || fail "BIOMEROWORKER_ACCOUNT=$BIOMEROWORKER_ACCOUNT is root: name an account without privileges"
    HOME=$home SSH_OWNER=$uid:$gid bash "$STARTUP_FOLDER/10-mount-ssh.sh"
    exec env HOME="$home" USER="$BIOMEROWORKER_ACCOUNT" LOGNAME="$BIOMEROWORKER_ACCOUNT" SSH_SOURCE= \
        setpriv --reuid="$uid" --regid="$gid" --init-groups --inh-caps=-all --no-new-privs \
        "${BASH_SOURCE[0]}" "$@"
}

if (( $(id -u) == 0 )); then
    run_as_account "$@"
fi

scripts=("$STARTUP_FOLDER"/[0-9][0-9]-*.sh)
(( ${#scripts[@]} )) || fail "no scripts in $STARTUP_FOLDER (STARTUP_FOLDER)"
for script in "${scripts[@]::${#scripts[@]}-1}"; do
    # shellcheck source=/dev/null
    source "$script"
done
if (( $# )); then
    join_grid
    exec "$@"
fi
exec bash "${scripts[-1]}"
