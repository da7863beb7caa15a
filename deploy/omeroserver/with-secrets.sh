#!/bin/sh
# Run a command with secrets from files: for each variable NAME_FILE, NAME is set to the content of the file that it
# names, and NAME_FILE is removed. The omero-server image reads passwords from variables only; in this way they are
# neither in .env nor in what `docker inspect` shows.
#
#   with-secrets.sh COMMAND [ARGUMENT]...
set -eu

fail() {
    echo "with-secrets.sh: $*" >&2
    exit 1
}

[ $# -gt 0 ] || fail "no command"
for variable in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*_FILE\)=.*/\1/p'); do
    name=${variable%_FILE}
    file=$(printenv "$variable")
    [ -z "$(printenv "$name" || true)" ] || fail "$name and $variable are both set; keep one of them"
    [ -f "$file" ] || fail "$variable: there is no file $file; make it with deploy/make-secrets.sh"
    [ -r "$file" ] || fail "$variable: uid $(id -u) cannot read $file; give the file mode 444 (its folder 700)"
    value=$(cat "$file")
    [ -n "$value" ] || fail "$variable: $file is empty"
    unset "$variable"
    export "$name=$value"
done
unset name file value variable
exec "$@"
