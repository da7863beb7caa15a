#!/usr/bin/env bash
# Bring back a backup of backup.sh: the databases, and OMERO's files if it has them.
#
#   deploy/restore.sh BACKUP [--yes]
#
# The manifest is checked before anything is changed. --yes replaces databases (and files) that are not empty.
#
# Services are stopped while this lasts, and those that ran are started again, also after a failure. Everything is restored
# beside what is there, and takes its place at the end: until then a failure leaves all as it was. configuration.tar is
# not unpacked: do that by hand, before this command (docs/deploy.md).
set -euo pipefail
PROGRAM=restore.sh
# shellcheck source=deploy/functions.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/functions.sh"

replace=0
positional=()
for argument; do
    case $argument in
        --yes) replace=1 ;;
        -*) fail "unknown option $argument; usage: deploy/restore.sh BACKUP [--yes]" ;;
        *) positional+=("$argument") ;;
    esac
done
(( ${#positional[@]} == 1 )) || fail "usage: deploy/restore.sh BACKUP [--yes]"
backup=$(cd -- "${positional[0]}" && pwd) || fail "there is no folder ${positional[0]}"

# --- the backup: complete and unchanged ---
[[ -f $backup/$MANIFEST ]] || fail "$backup has no $MANIFEST: it is not a complete backup; nothing was changed"
(cd -- "$backup" && sha256sum --check --strict --quiet -- "$MANIFEST" 1>&2) ||
    fail "$backup is damaged (see the lines above): use another backup; nothing was changed"
listed=$(sed 's/^[0-9a-f]* [ *]//' "$backup/$MANIFEST")

found=$(database_services)
[[ -n $found ]] || fail "the project has no database: is COMPOSE_FILE in .env right? Nothing was changed"
mapfile -t services <<< "$found"
for service in "${services[@]}"; do
    grep -qxF -- "$service.dump" <<< "$listed" || fail "$backup has no $service.dump; nothing was changed"
done
files=0
! grep -qxF omero-files.tar <<< "$listed" || files=1

running=$(compose ps --services --filter status=running) || fail "Compose does not answer; nothing was changed"
mapfile -t running <<< "$running"
stopped=()
for service in "${running[@]}"; do
    [[ -z $service ]] || contains "$service" "${services[@]}" || stopped+=("$service")
done

# --- what is there ---
start_databases "${services[@]}"
occupied=()
for service in "${services[@]}"; do
    in_database "$service" 'exec pg_restore --file=/dev/null' < "$backup/$service.dump" ||
        fail "PostgreSQL of $service cannot read $service.dump (an older version?); nothing was changed"
    # shellcheck disable=SC2016  # expanded in the container
    tables=$(in_database "$service" 'exec psql -X -q -At -d "$DATABASE" -c "select count(*) from pg_class c
        join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('\''r'\'', '\''p'\'')
        and n.nspname not like '\''pg\_%'\'' and n.nspname <> '\''information_schema'\''"' < /dev/null)
    (( tables == 0 )) || occupied+=("$service has $tables tables")
done

# Run tar or a shell in a container with OMERO's files.
in_omero() {
    compose run --rm -T --no-deps --entrypoint "$1" omeroserver "${@:2}"
}

if (( files )); then
    # what a restore that was killed has left
    [[ -z $(in_omero sh -c 'find /OMERO/.restore/old -mindepth 1 -maxdepth 1 2> /dev/null || true' < /dev/null) ]] ||
        fail "an earlier restore was killed: OMERO's files before it are in /OMERO/.restore/old; move them back. Nothing was changed"
    entries=$(in_omero find /OMERO -mindepth 1 -maxdepth 1 ! -name .restore ! -name lost+found < /dev/null | wc -l)
    (( entries == 0 )) || occupied+=("OMERO's files are there ($entries entries in /OMERO)")
fi
if (( ${#occupied[@]} && ! replace )); then
    printf -v list '%s; ' "${occupied[@]}"
    fail "not empty: ${list%; }. To replace that by $backup: deploy/restore.sh $backup --yes. Nothing was changed"
fi

# --- beside what is there ---
# What follows is undone if it does not come to its end.
swapped=()
undo() {
    local status=$? service
    trap '' INT TERM HUP
    set +e
    for service in "${swapped[@]}"; do
        log "putting the earlier database of $service back"
        swap "$service" before_restore restored
    done
    for service in "${services[@]}"; do
        drop "$service" restored
    done
    # not what is in "old": files that could not be moved back
    (( ! files )) || in_omero sh -c 'cd /OMERO/.restore 2> /dev/null || exit 0; rm -rf new; rmdir old ../.restore' < /dev/null
    start_stopped
    log "failed: nothing was changed"
    exit "$(( status ? status : 1 ))"
}

start_stopped() {
    (( ${#stopped[@]} )) || return 0
    log "starting ${stopped[*]}"
    compose up -d --no-deps "${stopped[@]}" 1>&2
}

# Drop the database DATABASE_$2 of the service $1.
drop() {
    # shellcheck disable=SC2016  # expanded in the container
    in_database "$1" 'exec psql -X -q -v ON_ERROR_STOP=1 -d postgres -v name="${DATABASE}_$1"' "$2" \
        <<< 'DROP DATABASE IF EXISTS :"name" WITH (FORCE);'
}

# In one transaction: DATABASE of the service $1 becomes DATABASE_$3, and DATABASE_$2 becomes DATABASE.
swap() {
    # shellcheck disable=SC2016  # expanded in the container
    in_database "$1" 'exec psql -X -q -v ON_ERROR_STOP=1 -d postgres -v current="$DATABASE" -v source="${DATABASE}_$1" \
        -v aside="${DATABASE}_$2" > /dev/null' "$2" "$3" << 'SQL'
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :'current';
BEGIN;
ALTER DATABASE :"current" RENAME TO :"aside";
ALTER DATABASE :"source" RENAME TO :"current";
COMMIT;
SQL
}

trap undo EXIT
trap 'exit 1' INT TERM HUP
if (( ${#stopped[@]} )); then
    log "stopping ${stopped[*]}"
    compose stop "${stopped[@]}" 1>&2
fi
for service in "${services[@]}"; do
    log "restoring $service"
    drop "$service" restored
    drop "$service" before_restore
    # shellcheck disable=SC2016  # expanded in the container
    in_database "$service" 'createdb --template=template0 "${DATABASE}_restored"' < /dev/null
    # shellcheck disable=SC2016  # expanded in the container
    in_database "$service" 'exec pg_restore --single-transaction --exit-on-error --no-owner --no-privileges \
        --dbname="${DATABASE}_restored"' < "$backup/$service.dump"
done
if (( files )); then
    log "restoring OMERO's files"
    in_omero sh -c 'rm -rf /OMERO/.restore && mkdir -p /OMERO/.restore/new /OMERO/.restore/old' < /dev/null
    in_omero tar -C /OMERO/.restore/new -xpf - < "$backup/omero-files.tar"
fi

# --- in its place ---
for service in "${services[@]}"; do
    swap "$service" restored before_restore
    swapped+=("$service")
done
if (( files )); then
    # shellcheck disable=SC2016  # expanded in the container
    in_omero sh -c '
        cd /OMERO || exit
        move() {
            find "$1" -mindepth 1 -maxdepth 1 ! -name .restore ! -name lost+found -exec mv -t "$2" -- {} +
        }
        if move . .restore/old; then
            if move .restore/new .; then exit 0; fi
            move . .restore/new
        fi
        move .restore/old .
        exit 1' < /dev/null
fi
trap - EXIT
trap '' INT TERM HUP
for service in "${services[@]}"; do
    drop "$service" before_restore || log "warning: the earlier database of $service could not be dropped"
done
if (( files )); then
    in_omero rm -rf /OMERO/.restore < /dev/null || log "warning: remove /OMERO/.restore, the earlier files of OMERO"
fi
start_stopped
log "restored from $backup"
(( ${#stopped[@]} )) || log "start the other services: docker-compose up -d"
