#!/bin/sh
# Prepare the final image for the account $1: what the startup scripts run (OpenSSH's client first of all) from the base's
# distribution, the account where the base has none, its folders, and nothing of the base's own startup.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=container/image/common.sh
. "$here/common.sh"
account=$1

apt='openssh-client' dnf='openssh-clients diffutils gawk util-linux'
if [ -n "${BIOFORMATS2RAW_VERSION:-}" ]; then
    apt="$apt libblosc1" dnf="$dnf blosc"
fi
install_packages --apt "$apt" --dnf "$dnf"

if ! id "$account" > /dev/null 2>&1; then
    useradd --uid 1000 --create-home --shell /bin/bash "$account"
fi
# the Dockerfile names the account by its number, so that Kubernetes can see that it is not root
[ "$(id -u "$account")" = 1000 ] || fail "the account $account of the base image has the uid $(id -u "$account"), not 1000"
home=$(getent passwd "$account" | cut -d: -f6)
# State of runs; a named volume that is mounted here starts with this owner.
install -d -o "$account" -g "$(id -g "$account")" "$home/.local" "$home/.local/state" "$home/.local/state/biomeroworker"
install -d -m 700 -o "$account" -g "$(id -g "$account")" "$home/.ssh"

rm -rf /startup
ln -s /startup/entrypoint.sh /usr/local/bin/biomeroworker-entrypoint
