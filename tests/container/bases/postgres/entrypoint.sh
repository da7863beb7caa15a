#!/bin/bash
# Make the database at the first start, as the account postgres, and run the server.
set -euo pipefail
if (( $(id -u) == 0 )); then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    install -d -o postgres -g postgres -m 2775 /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
    initdb --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 > /dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w -s -o "-c listen_addresses=''" start
    [[ $database == postgres ]] || createdb --username="$user" "$database"
    pg_ctl -w -s -m fast stop
fi
exec postgres -c listen_addresses='*' "$@"
