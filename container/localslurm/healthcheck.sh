#!/usr/bin/env bash
# Health of the cluster: status 0 if its node takes jobs and sshd answers, else one line and status 1.
set -euo pipefail

state=$(timeout 5 sinfo -h -o %t 2>&1) || { echo "sinfo: ${state%%$'\n'*}"; exit 1; }
case $state in
    idle | mix | alloc | comp) ;;
    *) echo "the node is ${state:-unknown}"; exit 1 ;;
esac
exec 3<> /dev/tcp/127.0.0.1/22 || { echo "sshd does not answer"; exit 1; }
IFS= read -r -t 5 greeting <&3 || greeting=
[[ $greeting == SSH-2.0-* ]] || { echo "sshd does not greet"; exit 1; }
