#!/usr/bin/env bash
# Make the secrets of docker-compose.yml: one file each, with random content. Existing files are not changed.
#
#   deploy/make-secrets.sh                    all that the databases and OMERO's account root need
#   deploy/make-secrets.sh omero_password     reads that secret from the terminal or stdin and writes it
#
# The folder is SECRETS_FOLDER, or secrets/ beside docker-compose.yml. It gets mode 700, so other users of this machine
# cannot read the files; the files get mode 444, since the accounts in the containers must read them.
set -euo pipefail

fail() {
    echo "make-secrets.sh: $*" >&2
    exit 1
}

here=$(cd -- "$(dirname -- "$0")/.." && pwd)
folder=${SECRETS_FOLDER:-$here/secrets}

# Write stdin to the file $1 of the folder: complete or not at all.
write() {
    local partial
    partial=$(mktemp -- "$folder/.partial.XXXXXX")
    cat > "$partial"
    chmod 444 -- "$partial"
    mv -T -- "$partial" "$folder/$1"
    echo "made $folder/$1"
}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

read_secret() {
    local first second
    [[ $1 =~ ^[a-z][a-z0-9_]*$ ]] || fail "${1@Q} is not the name of a secret: small letters, digits and _"
    [[ ! -e $folder/$1 ]] || fail "$folder/$1 exists; remove it to give another secret"
    if [[ -t 0 ]]; then
        read -rsp "$1: " first
        read -rsp $'\nonce more: ' second
        echo
        [[ $first == "$second" ]] || fail "the two differ; nothing was written"
    else
        IFS= read -r first || [[ -n $first ]] || fail "no secret on standard input"
    fi
    [[ -n $first ]] || fail "the secret is empty; nothing was written"
    printf '%s\n' "$first" | write "$1"
}

umask 077
mkdir -p -- "$folder"
chmod 700 -- "$folder"
if (( $# > 1 )); then
    fail "usage: deploy/make-secrets.sh [NAME]"
elif (( $# )); then
    read_secret "$1"
else
    for name in omero_db_password omero_root_password biomero_db_password; do
        [[ -e $folder/$name ]] || random | write "$name"
    done
    # the same password as an address, for biomeroworker
    if [[ ! -e $folder/biomero_db_url ]]; then
        password=$(< "$folder/biomero_db_password")
        [[ $password =~ ^[A-Za-z0-9._~-]+$ ]] ||
            fail "$folder/biomero_db_password has characters that an address cannot have; use letters and digits"
        printf 'postgresql+psycopg2://biomero:%s@database-biomero:5432/biomero\n' "$password" | write biomero_db_url
    fi
fi
