#!/usr/bin/env bash
# Start OMERO's master: registry and node in one process, which starts the servers that the grid's application names.
set -euo pipefail

export OMERODIR=/opt/omero/server/OMERO.server
cd -- "$OMERODIR"
umask 077
if [[ -n ${ROOTPASS:-} ]]; then
    printf '%s' "$ROOTPASS" > /OMERO/root-password
    unset ROOTPASS
fi
export OMERO_ROOT_PASSWORD_FILE=/OMERO/root-password
[[ -s $OMERO_ROOT_PASSWORD_FILE ]] || { echo "master: error: ROOTPASS is not set" >&2; exit 1; }
mkdir -p var/registry var/master var/log /OMERO/certs
if [[ ! -s /OMERO/certs/server.pem ]]; then
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 3650 \
        -keyout /OMERO/certs/server.key -out /OMERO/certs/server.pem 2> /dev/null
fi
python /opt/master/grid.py > var/application.xml
# omero-py's servers wait ten seconds before they start, unless OMERO_STARTUP_WAIT is set
export OMERO_STARTUP_WAIT=0 PYTHONUNBUFFERED=1
exec icegridnode --Ice.Config=/opt/master/master.cfg --nochdir --deploy var/application.xml
