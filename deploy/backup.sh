#!/usr/bin/env bash
# Back up the project: both databases, the configuration, and OMERO's files if wanted, into one new folder.
#
#   deploy/backup.sh [--omero-files] [FOLDER]
#
# FOLDER (default: backups/ at the root of this repository) gets a folder named by the time, in UTC, with
#   database-biomero.dump, database.dump   pg_dump's custom format, each of one moment
#   configuration.tar                      .env, the ini file, Compose files and overlays; no secrets, no SSH keys
#   omero-files.tar                        the volume of OMERO's files (--omero-files)
#   about.txt                              time, versions
#   MANIFEST.sha256                        the checksum of each of them
# Services go on running. Until all is there and readable, the folder's name begins with a dot.
set -euo pipefail
PROGRAM=backup.sh
# shellcheck source=deploy/functions.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/functions.sh"

omero_files=0
target=$ROOT/backups
positional=()
for argument; do
    case $argument in
        --omero-files) omero_files=1 ;;
        -*) fail "unknown option $argument; usage: deploy/backup.sh [--omero-files] [FOLDER]" ;;
        *) positional+=("$argument") ;;
    esac
done
(( ${#positional[@]} < 2 )) || fail "usage: deploy/backup.sh [--omero-files] [FOLDER]"
(( ! ${#positional[@]} )) || target=${positional[0]}

umask 077
mkdir -p -- "$target"
target=$(cd -- "$target" && pwd)
time=$(date -u +%Y-%m-%dT%H%M%SZ)
final=$target/$time
partial=$target/.partial-$time
[[ ! -e $final ]] || fail "$final exists: wait a second and start again"
mkdir -- "$partial"
trap 'rm -rf -- "$partial"' EXIT
trap 'exit 1' INT TERM HUP

found=$(database_services)
mapfile -t services <<< "$found"
[[ -n $found ]] || fail "the project has no database: is COMPOSE_FILE in .env right?"
find_containers "${services[@]}"

{
    echo "time $time"
    echo "revision $(git -C "$ROOT" rev-parse HEAD 2> /dev/null || echo unknown)"
} > "$partial/about.txt"
for service in "${services[@]}"; do
    log "dumping $service"
    # shellcheck disable=SC2016  # expanded in the container
    in_database "$service" 'exec pg_dump --format=custom --no-owner --no-privileges "$DATABASE"' \
        > "$partial/$service.dump" < /dev/null || fail "pg_dump of $service failed: see the lines above; no backup was made"
    # a dump that was cut off has no complete list of contents, or ends early
    in_database "$service" 'exec pg_restore --file=/dev/null' < "$partial/$service.dump" ||
        fail "the dump of $service cannot be read back; no backup was made"
    version=$(in_database "$service" 'exec pg_dump --version' < /dev/null)
    echo "$service $version" >> "$partial/about.txt"
done

configuration=()
for name in .env slurm-config-override.ini docker-compose.yml docker-compose.override.yml deploy; do
    [[ ! -e $ROOT/$name ]] || configuration+=("$name")
done
tar -C "$ROOT" -cf "$partial/configuration.tar" -- "${configuration[@]}"

if (( omero_files )); then
    log "copying OMERO's files"
    compose run --rm -T --no-deps --entrypoint tar omeroserver -C /OMERO --numeric-owner -cf - . \
        > "$partial/omero-files.tar" < /dev/null || fail "OMERO's files could not be read; no backup was made"
    tar -tf "$partial/omero-files.tar" > /dev/null || fail "the archive of OMERO's files is not complete; no backup was made"
fi

(cd -- "$partial" && all=(*) && sha256sum -- "${all[@]}" > "$MANIFEST")
sync -f "$partial"
mv -T -- "$partial" "$final"
trap - EXIT
log "complete: $(du -sh -- "$final" | cut -f1)"
echo "$final"
