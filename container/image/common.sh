# shellcheck shell=sh
# What the build steps of the Dockerfile share. Sourced, not run.
#
# A site behind a proxy with a certificate authority of its own, or with a package index of its own, hands both in as
# secrets of the build: they are files of one step and never part of a layer.
#   docker build --secret id=ca_bundle,src=FILE.pem --secret id=pip_conf,src=pip.conf .
set -eu

CA_BUNDLE=/run/secrets/ca_bundle
PIP_CONF=/run/secrets/pip_conf

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
if [ -s "$CA_BUNDLE" ]; then
    export PIP_CERT="$CA_BUNDLE" SSL_CERT_FILE="$CA_BUNDLE" REQUESTS_CA_BUNDLE="$CA_BUNDLE" CURL_CA_BUNDLE="$CA_BUNDLE"
fi
if [ -s "$PIP_CONF" ]; then
    export PIP_CONFIG_FILE="$PIP_CONF"
fi

fail() {
    echo "image: error: $*" >&2
    exit 1
}

# The interpreter of the base image: what biomeroworker and zeroc-ice are installed for.
require_python() {
    command -v "$PYTHON" > /dev/null ||
        fail "the base image has no $PYTHON; name its Python 3.11 with --build-arg PYTHON=PATH"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        fail "$PYTHON of the base image is not Python 3.11; name another with --build-arg PYTHON=PATH"
}

# Install packages of the base's distribution, without recommended ones, and leave no caches or logs behind.
#   install_packages --apt "NAME…" --dnf "NAME…"
install_packages() {
    apt_names='' dnf_names=''
    while [ $# -ge 2 ]; do
        case $1 in
            --apt) apt_names=$2 ;;
            --dnf) dnf_names=$2 ;;
            *) fail "install_packages: unknown option $1" ;;
        esac
        shift 2
    done
    # shellcheck disable=SC2086  # lists of names
    if command -v apt-get > /dev/null; then
        set --
        [ ! -s "$CA_BUNDLE" ] || set -- -o "Acquire::https::CAInfo=$CA_BUNDLE"
        export DEBIAN_FRONTEND=noninteractive
        apt-get "$@" update -qq
        apt-get "$@" install -y -qq --no-install-recommends $apt_names > /dev/null
        apt-get clean
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old \
            /var/lib/dpkg/*-old /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
    elif command -v dnf > /dev/null; then
        set --
        [ ! -s "$CA_BUNDLE" ] || set -- "--setopt=sslcacert=$CA_BUNDLE"
        dnf "$@" -y -q --setopt=install_weak_deps=False --setopt=tsflags=nodocs install $dnf_names
        dnf clean all -q
        rm -rf /var/cache/dnf /var/log/dnf* /var/log/hawkey.log
    else
        fail "the base image has neither apt-get nor dnf"
    fi
}
