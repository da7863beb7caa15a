#!/usr/bin/env bash
# Start a node of OMERO's grid in the omero-server image, in place of a server (99-run.sh of the image).
#
#   CONFIG_omero_master_host   where the grid's registry answers, on port 4061
#   OMERO_WORKER_NAME          the node's name in omero.server.nodedescriptors
#   OMERO_WORKER_HOST          the node's own address, if it is not its name
#
# Addresses are written as names: Ice resolves them again when it connects again.
set -euo pipefail

fail() {
    echo "omeroworker: error: $*" >&2
    exit 1
}

folder=${OMERODIR:-/opt/omero/server/OMERO.server}
omero=${OMERO_COMMAND:-/opt/omero/server/venv3/bin/omero}
master=${CONFIG_omero_master_host:-}
name=${OMERO_WORKER_NAME:-}
host=${OMERO_WORKER_HOST:-$name}

is_name() {
    [[ $1 =~ ^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$ ]]
}

is_name "$master" || fail "CONFIG_omero_master_host=${master@Q} is not a host name or an address"
is_name "$name" || fail "OMERO_WORKER_NAME=${name@Q} is not a node name"
is_name "$host" || fail "OMERO_WORKER_HOST=${host@Q} is not a host name or an address"

mkdir -p -- "$folder/var/$name" "$folder/var/log"
cat > "$folder/etc/$name.cfg" << CONFIGURATION
# Written at each start of the container.
IceGrid.Node.Name=$name
IceGrid.Node.Endpoints=tcp -h $host
IceGrid.Node.Data=var/$name
IceGrid.Node.Output=var/log
IceGrid.Node.CollocateRegistry=0
Ice.StdOut=var/log/$name.out
Ice.StdErr=var/log/$name.err
CONFIGURATION
cat > "$folder/etc/ice.config" << CONFIGURATION
# Written at each start of the container.
omero.host=$master
Ice.Default.Router=OMERO.Glacier2/router:ssl -p 4064 -h $master
CONFIGURATION

seconds=0
until (exec 3<> "/dev/tcp/$master/4061") 2> /dev/null; do
    (( seconds % 30 )) || echo "omeroworker: waiting for OMERO's master $master:4061 since $seconds s"
    sleep 1
    seconds=$(( seconds + 1 ))
done
echo "omeroworker: starting node $name for the master $master"
exec "$omero" node "$name" start --foreground
