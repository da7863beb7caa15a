# shellcheck shell=bash
# Functions that the startup scripts share. Sourced, not run.

# One line on stderr, which `docker logs` shows. Control characters (of a file name, for instance) are shown as "?".
log() {
    printf 'startup: %s\n' "${*//[[:cntrl:]]/?}" >&2
}

# Log an error and exit with status 1.
fail() {
    log "error: $*"
    exit 1
}

is_port() {
    [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (( $1 <= 65535 ))
}

is_number() {
    [[ $1 =~ ^(0|[1-9][0-9]{0,6})$ ]]
}

# A DNS name or an IP address. What else Ice would read in an endpoint (blanks, options, further endpoints) is refused.
is_host() {
    [[ $1 =~ ^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$ || $1 =~ ^[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*$ ]] && (( ${#1} <= 253 ))
}

# Write stdin to the file $1 so that readers see the old content or the new one.
write_file() {
    local folder=${1%/*} partial
    mkdir -p -- "$folder" || fail "cannot make the folder $folder: see the line above"
    partial=$(mktemp -- "$folder/.${1##*/}.XXXXXX") || fail "cannot write to $folder as uid $(id -u): see the line above"
    # mktemp makes mode 600: readers are processes of this account
    if ! cat > "$partial" || ! mv -T -- "$partial" "$1"; then
        rm -f -- "$partial"
        fail "cannot write $1: see the line above"
    fi
}

# Give the supervisor and commands access to OMERO: a member of the grid needs no password. IceGrid's node does not get
# this variable, because scripts must not have it.
join_grid() {
    if [[ ${BIOMEROWORKER_MODE:-node} == node ]]; then
        # shellcheck disable=SC2154  # 20-config.sh has checked both
        export OMERO_LOCATOR="IceGrid/Locator:tcp -h $CONFIG_omero_master_host -p $CONFIG_omero_master_port"
    fi
}
