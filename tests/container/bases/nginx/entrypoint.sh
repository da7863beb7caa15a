#!/bin/bash
# Replace the variables in the templates and run the server.
set -euo pipefail
shopt -s nullglob
variables=$(compgen -e | grep -E -- "${NGINX_ENVSUBST_FILTER:-.*}" | sed 's/.*/${&}/')
for template in /etc/nginx/templates/*.template; do
    name=${template##*/}
    envsubst "$variables" < "$template" > "/etc/nginx/conf.d/${name%.template}"
done
exec nginx -g 'daemon off;'
