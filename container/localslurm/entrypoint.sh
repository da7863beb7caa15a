#!/usr/bin/env bash
# Start the services of the cluster, monitor them, and stop them in order on SIGTERM. When one ends, all are stopped with
# status 1, and the restart policy of the container starts them again.
#
# Public keys that may log in as hpcuser come from the variable LOCALSLURM_AUTHORIZED_KEYS (one key on each line) or from
# a file that is mounted at /etc/localslurm/authorized_keys.
set -euo pipefail

CONFIGURATION=/etc/localslurm
STATE=/var/lib/localslurm
ACCOUNT=hpcuser
START_SECONDS=60

log() {
    printf 'localslurm: %s\n' "$*" >&2
}

fail() {
    log "error: $*"
    exit 1
}

# A folder $1 of the account $2 with the mode $3. Account ids may change with the image, so the content is given to it too.
folder() {
    install -d -m "$3" "$1"
    chown -R "$2:" "$1"
}

# shellcheck disable=SC2317  # called by `start`
as() {
    local account=$1
    shift
    setpriv --reuid="$account" --regid="$account" --init-groups "$@"
}

write_keys() {
    local keys=${LOCALSLURM_AUTHORIZED_KEYS:-} file=$CONFIGURATION/authorized_keys
    unset LOCALSLURM_AUTHORIZED_KEYS
    [[ ! -d $file ]] || fail "$file is a folder, not a file: the file that is mounted there is missing on the host"
    if [[ -f $file ]]; then
        keys+=$'\n'$(< "$file")
    fi
    folder /run/localslurm root 755
    printf '%s\n' "$keys" > /run/localslurm/authorized_keys
    chmod 644 /run/localslurm/authorized_keys
    ssh-keygen -l -f /run/localslurm/authorized_keys > /dev/null 2>&1 ||
        fail "no public key may log in: set LOCALSLURM_AUTHORIZED_KEYS to a public key, or mount a file of public keys at $file"
}

write_host_key() {
    local key=$STATE/ssh/ssh_host_ed25519_key
    folder "$STATE/ssh" root 700
    if [[ ! -s $key ]]; then
        rm -f -- "$key.new" "$key.new.pub"
        ssh-keygen -q -t ed25519 -N '' -C localslurm -f "$key.new"
        mv -- "$key.new.pub" "$key.pub"
        mv -- "$key.new" "$key"
    fi
    log "host key, for known_hosts: localslurm $(cut -d' ' -f1,2 "$key.pub")"
}

write_munge_key() {
    local key=$STATE/munge/munge.key
    folder "$STATE/munge" munge 700
    folder /run/munge munge 755
    if [[ ! -s $key ]]; then
        (umask 077 && head -c 128 /dev/urandom > "$key.new")
        chown munge: "$key.new"
        mv -- "$key.new" "$key"
    fi
}

# MiB of memory that this container may use.
memory() {
    local bytes file limit
    bytes=$(( $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) * 1024 ))
    for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
        [[ -r $file ]] || continue
        limit=$(< "$file")
        if [[ $limit != max ]] && (( ${#limit} < 18 && limit < bytes )); then
            bytes=$limit
        fi
    done
    echo $(( bytes / 1024 / 1024 ))
}

write_configuration() {
    local values=(-e "s/@HOST@/$(hostname -s)/" -e "s/@CPUS@/$(nproc)/" -e "s/@MEMORY@/$(memory)/")
    sed "${values[@]}" "$CONFIGURATION/slurm.conf" > /etc/slurm/slurm.conf
    install -m 600 -o slurm -g slurm "$CONFIGURATION/slurmdbd.conf" /etc/slurm/slurmdbd.conf
    folder "$STATE/slurmctld" slurm 700
    folder /run/slurm slurm 755
    # what slurmd remembers of jobs before the container was stopped: they are gone
    rm -rf -- /var/spool/slurmd /run/slurmd.pid
    install -d -m 755 /var/spool/slurmd
    folder /run/mysqld mysql 755
    install -d -m 755 /run/sshd
    chown "$ACCOUNT:" "/home/$ACCOUNT"
    # mode 600 on machines without udev; this changes the container's own device only
    [[ ! -c /dev/fuse ]] || chmod 666 /dev/fuse
}

services=()
declare -A pid

# Start the service $1 by the command that follows.
start() {
    local name=$1
    shift
    "$@" < /dev/null &
    pid[$name]=$!
    services+=("$name")
}

# Wait until the service $1 answers the command that follows.
ready() {
    local name=$1 deadline=$(( SECONDS + START_SECONDS ))
    shift
    until timeout 5 "$@" > /dev/null 2>&1; do
        kill -0 "${pid[$name]}" 2> /dev/null || fail "$name ended while it started: see the lines above"
        (( SECONDS < deadline )) || fail "$name does not answer after $START_SECONDS s: see the lines above"
        sleep 0.2
    done
}

start_database() {
    if [[ ! -d $STATE/mariadb/mysql ]]; then
        # made beside it: an interrupted first start leaves no half database
        rm -rf -- "$STATE/mariadb.new"
        folder "$STATE/mariadb.new" mysql 700
        mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mariadb.new" --skip-test-db \
            --auth-root-authentication-method=socket > /dev/null || fail "the database cannot be made: see the lines above"
        rm -rf -- "$STATE/mariadb"
        mv -- "$STATE/mariadb.new" "$STATE/mariadb"
    fi
    folder "$STATE/mariadb" mysql 700
    start mariadb mariadbd --defaults-file="$CONFIGURATION/my.cnf"
    ready mariadb mariadb-admin --no-defaults ping
    mariadb --no-defaults -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
        CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
        GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
}

# SLURM's accounting knows the cluster and the account.
register() {
    local known
    known=$(sacctmgr -n -P list cluster format=cluster)
    grep -qx localslurm <<< "$known" || sacctmgr -i -Q add cluster localslurm > /dev/null
    known=$(sacctmgr -n -P list account format=account)
    grep -qx users <<< "$known" || sacctmgr -i -Q add account users Description=users Organization=users > /dev/null
    known=$(sacctmgr -n -P list user format=user)
    grep -qx "$ACCOUNT" <<< "$known" || sacctmgr -i -Q add user "$ACCOUNT" Account=users > /dev/null
}

start_all() {
    start munge as munge munged --foreground --key-file="$STATE/munge/munge.key" --num-threads=2
    start_database
    ready munge sh -c 'munge -n | unmunge'
    start slurmdbd as slurm slurmdbd -D
    ready slurmdbd sacctmgr -n list cluster
    register
    start slurmctld as slurm slurmctld -D
    ready slurmctld sh -c 'scontrol ping | grep -q "is UP"'
    # -b: no job of before runs any more, and the controller shall know it at once
    start slurmd slurmd -D -b -N localslurm
    ready slurmd sh -c 'sinfo -h -o %t | grep -qxE "idle|mix|alloc|comp|drain|drng"'
    if sinfo -h -o %t | grep -qE '^dr'; then
        scontrol update nodename=localslurm state=resume
    fi
    start sshd /usr/sbin/sshd -D -e -f "$CONFIGURATION/sshd_config"
    ready sshd ssh-keyscan -T 2 -t ed25519 127.0.0.1
    log "ready: $(sinfo -h -o '%D node, %c CPUs, %m MiB, partition %P'); $(apptainer --version)"
}

# Stop the services, the last first, and exit with status $1. What still runs of jobs ends with the container; they are
# queued again at the next start.
stop_all() {
    trap '' TERM INT
    local index name deadline
    for (( index = ${#services[@]} - 1; index >= 0; index-- )); do
        name=${services[index]}
        kill -TERM "${pid[$name]}" 2> /dev/null || continue
        deadline=$(( SECONDS + 8 ))
        while kill -0 "${pid[$name]}" 2> /dev/null; do
            if (( SECONDS >= deadline )); then
                log "$name does not stop: killed"
                kill -KILL "${pid[$name]}" 2> /dev/null || true
                break
            fi
            sleep 0.05
        done
    done
    log "stopped"
    exit "$1"
}

(( $(id -u) == 0 )) || fail "this container is started as root: sshd and slurmd change to the account of a job"
write_keys
write_host_key
write_munge_key
write_configuration
trap 'stop_all 0' TERM INT
trap '(( $? == 0 )) || stop_all 1' EXIT
start_all
wait -n || true
for name in "${services[@]}"; do
    kill -0 "${pid[$name]}" 2> /dev/null || log "error: $name has ended: see the lines above"
done
stop_all 1
