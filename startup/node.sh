# shellcheck shell=bash
# The part of 99-run.sh for a node of OMERO's grid: its files, waiting for the master, and staying registered there.
# Sourced, not run. 20-config.sh has set and checked the variables.

: "${CONFIG_omero_master_host:?is not set}" "${CONFIG_omero_master_port:?is not set}"
: "${OMERO_WORKER_NAME:?is not set}" "${OMERO_WORKER_PORT:?is not set}" "${OMERO_HOST:?is not set}" "${OMERO_PORT:?is not set}"

SERVER=${OMERO_SERVER_FOLDER:-/opt/omero/server/OMERO.server}
MASTER_REPORT_SECONDS=${MASTER_REPORT_SECONDS:-30}
MASTER_CHECK_SECONDS=${MASTER_CHECK_SECONDS:-10}
# IceGrid's node contacts its master every 15 s and registers again within 30 s. If the registration is lost for longer, the
# node may wait for minutes for a connection to an address that no longer answers.
REGISTRATION_LIMIT_SECONDS=${REGISTRATION_LIMIT_SECONDS:-30}

write_node_files() {
    mkdir -p -- "$SERVER/etc" "$SERVER/var/log" "$SERVER/var/$OMERO_WORKER_NAME" ||
        fail "cannot make folders in $SERVER (OMERO_SERVER_FOLDER) as uid $(id -u): see the line above"
    chmod 700 -- "$SERVER/var/$OMERO_WORKER_NAME"
    {
        echo "# Written at each start of the container."
        echo "IceGrid.Node.Name=$OMERO_WORKER_NAME"
        echo "IceGrid.Node.Data=$SERVER/var/$OMERO_WORKER_NAME"
        echo "IceGrid.Node.Endpoints=tcp -p $OMERO_WORKER_PORT"
        if [[ -n ${OMERO_WORKER_PUBLISHED_HOST:-} ]]; then
            echo "IceGrid.Node.PublishedEndpoints=tcp -h $OMERO_WORKER_PUBLISHED_HOST -p $OMERO_WORKER_PORT"
        fi
        # No IceGrid.Node.Output: the servers write where this script writes, to the log of the container.
        echo "IceGrid.Node.WaitTime=20"
    } | write_file "$SERVER/etc/$OMERO_WORKER_NAME.cfg"
    {
        echo "# Written at each start of the container."
        # The name, not the address: Ice resolves it at each new connection.
        echo "Ice.Default.Locator=IceGrid/Locator:tcp -h $CONFIG_omero_master_host -p $CONFIG_omero_master_port"
        echo "Ice.Override.ConnectTimeout=5000"
        echo "Ice.MessageSizeMax=250000"
        # Without a user and a password icegridadmin waits for input; the grid's registry checks neither.
        echo "IceGridAdmin.Username=biomeroworker"
        echo "IceGridAdmin.Password=none"
    } | write_file "$SERVER/etc/internal.cfg"
    {
        echo "# Written at each start of the container: where scripts log in."
        echo "omero.host=$OMERO_HOST"
        echo "omero.port=$OMERO_PORT"
        echo "Ice.Default.Router=OMERO.Glacier2/router:ssl -p $OMERO_PORT -h $OMERO_HOST"
    } | write_file "$SERVER/etc/ice.config"
}

# The addresses of the master, sorted, on one line; fails if its name cannot be resolved.
master_addresses() {
    local found
    found=$(timeout 5 getent ahosts "$CONFIG_omero_master_host") || return 1
    awk '{ print $1 }' <<< "$found" | sort -u | paste -sd ' '
}

# Whether the master's registry answers: an Ice server sends the first bytes.
master_greets() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    [[ $(timeout 4 bash -c 'exec 3<> "/dev/tcp/$0/$1" && head -c 4 <&3' \
        "$CONFIG_omero_master_host" "$CONFIG_omero_master_port" 2> /dev/null) == IceP ]]
}

# The reason why the master cannot be used now; empty if it can.
master_trouble() {
    if ! master_addresses > /dev/null; then
        echo "the name $CONFIG_omero_master_host (CONFIG_omero_master_host) cannot be resolved"
    elif ! master_greets; then
        echo "$CONFIG_omero_master_host does not answer on port $CONFIG_omero_master_port (CONFIG_omero_master_port)"
    fi
}

wait_for_master() {
    local started=$SECONDS reported=-1 trouble
    while trouble=$(master_trouble) && [[ -n $trouble ]]; do
        if [[ -n ${OMERO_MASTER_WAIT_SECONDS:-} ]] && (( SECONDS - started >= OMERO_MASTER_WAIT_SECONDS )); then
            log "error: $trouble, for $(( SECONDS - started )) s (OMERO_MASTER_WAIT_SECONDS=$OMERO_MASTER_WAIT_SECONDS)"
            exit "$GIVE_UP"
        fi
        if (( reported < 0 || SECONDS - reported >= MASTER_REPORT_SECONDS )); then
            log "waiting for OMERO's master since $(( SECONDS - started )) s: $trouble"
            reported=$SECONDS
        fi
        sleep 1
    done
}

service_node() {
    wait_for_master
    log "OMERO's master is $CONFIG_omero_master_host ($(master_addresses)); starting IceGrid's node $OMERO_WORKER_NAME"
    cd -- "$SERVER" || exit
    local modules
    modules=$("$VENV/bin/python" -c 'import biomeroworker.node; print(biomeroworker.node.__path__[0])') ||
        fail "biomeroworker is not installed in $VENV (BIOMEROWORKER_VENV)"
    # The grid starts the Processor as `${PYTHON} -m runProcessor`: these make it ours.
    export PYTHON=$VENV/bin/python PYTHONPATH=$modules${PYTHONPATH:+:$PYTHONPATH}
    export BIOMEROWORKER_LOG_TO_STDERR=1
    exec icegridnode "--Ice.Config=etc/internal.cfg,etc/$OMERO_WORKER_NAME.cfg" --nochdir
}

# Run one command of icegridadmin.
ask_master() {
    (cd -- "$SERVER" && timeout 8 icegridadmin --Ice.Config=etc/internal.cfg -e "$1" 2>&1 < /dev/null)
}

# The state of this node at the master: "up", "unreachable" (it is registered, but the master cannot connect to it), "unknown"
# (it is not registered), or "silent" if the master does not answer.
registration() {
    local answer
    answer=$(ask_master "node ping $OMERO_WORKER_NAME") || true
    case $answer in
        *"is up"*) echo up ;;
        *"is down"*)
            # also the answer for a node that has servers and is not registered; that one cannot be described
            answer=$(ask_master "node describe $OMERO_WORKER_NAME") || true
            if [[ $answer == *"operating system"* ]]; then
                echo unreachable
            else
                echo unknown
            fi
            ;;
        *"find node"*) echo unknown ;;
        *) echo silent ;;
    esac
}

# The servers that the master has given to this node.
list_servers() {
    local folder
    for folder in "$SERVER/var/$OMERO_WORKER_NAME/servers"/*/; do
        [[ ! -d $folder ]] || basename -- "$folder"
    done
}

# Stop IceGrid's node with the process id $1. While its master hangs, SIGTERM is not enough: its servers have ended by then,
# and 99-run.sh kills those that have not.
end_node() {
    local deadline=$(( SECONDS + 6 ))
    kill -TERM "$1" 2> /dev/null || return 0
    while (( SECONDS < deadline )); do
        kill -0 "$1" 2> /dev/null || return 0
        sleep 0.5
    done
    kill -KILL "$1" 2> /dev/null || true
}

# Log changes of the registration. If it is lost for too long, stop IceGrid's node, which is then started again: after a
# change of the master's address, a connection to the old address may hang for minutes.
service_registration() {
    local now="" before="" last unknown_since=$SECONDS servers
    while sleep "$MASTER_CHECK_SECONDS"; do
        last=$now
        now=$(registration)
        if [[ $now != unknown ]]; then
            unknown_since=$SECONDS
        elif (( SECONDS - unknown_since >= REGISTRATION_LIMIT_SECONDS )); then
            log "the master has not known this node for $(( SECONDS - unknown_since )) s: restarting IceGrid's node"
            unknown_since=$SECONDS
            end_node "$(< "$STATE/node.pid")"
        fi
        # A node that just starts or ends is unreachable for a moment.
        if [[ $now == "$before" || ( $now == unreachable && $last != unreachable ) ]]; then
            continue
        fi
        case $now in
            up)
                servers=$(list_servers | tr '\n' ' ')
                if [[ -n $servers ]]; then
                    log "registered with OMERO's master as $OMERO_WORKER_NAME; servers: ${servers% }"
                else
                    log "warning: registered with OMERO's master as $OMERO_WORKER_NAME, which has no server there; add" \
                        "$OMERO_WORKER_NAME:Processor-0 to omero.server.nodedescriptors"
                fi
                ;;
            unreachable)
                log "error: OMERO's master cannot connect to this node at" \
                    "${OMERO_WORKER_PUBLISHED_HOST:-$HOSTNAME}:$OMERO_WORKER_PORT; open or publish that port"
                ;;
            unknown) [[ -z $before ]] || log "OMERO's master no longer knows this node" ;;
            silent) [[ -z $before ]] || log "OMERO's master does not answer; IceGrid's node connects again when it does" ;;
        esac
        before=$now
    done
}
