#!/usr/bin/env bash
# Health of the master: Blitz is active, and Glacier2 takes a login's connection.
set -euo pipefail
cd /opt/omero/server/OMERO.server
state=$(timeout 5 icegridadmin --Ice.Config=/opt/master/master.cfg -e 'server state Blitz-0' < /dev/null 2>&1) ||
    { echo "the registry does not answer"; exit 1; }
[[ $state == active* ]] || { echo "Blitz-0 is ${state%%$'\n'*}"; exit 1; }
timeout 5 bash -c 'exec 3<> /dev/tcp/127.0.0.1/4064' 2> /dev/null || { echo "Glacier2 does not answer"; exit 1; }
