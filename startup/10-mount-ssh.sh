#!/usr/bin/env bash
# Copy the SSH keys of the mount ($SSH_SOURCE) to $HOME/.ssh: folders 700, files 600, owned by the account.
#
# The copy follows the mount: a file that left the mount leaves $HOME/.ssh at the next start. Files that were not copied
# by this script stay, and so do the lines that ssh added to known_hosts. Only regular files within the mount are copied;
# links are followed as long as they stay within it (secrets of Docker and Kubernetes are such links).
#
# Can be run alone or sourced by entrypoint.sh.
set -euo pipefail
# shellcheck source=startup/functions.sh
source "${STARTUP_FOLDER:-$(dirname -- "${BASH_SOURCE[0]}")}/functions.sh"

mount_ssh() {
    umask 077
    shopt -s nullglob dotglob
    LC_ALL=C
    local source=${SSH_SOURCE-/tmp/.ssh} required=${SSH_REQUIRED:-0} owner=${SSH_OWNER:-}
    local target=$HOME/.ssh
    local state=$target/.mounted # what was copied: the list of files, and known_hosts as it was in the mount
    [[ -n $source ]] || return 0 # switched off, or done by root already

    if [[ ! -e $source ]]; then
        [[ $required != 1 ]] || fail "no SSH keys: $source is not mounted (SSH_REQUIRED=1); add -v \$HOME/.ssh:$source:ro"
        log "warning: no SSH keys: $source is not mounted; add -v \$HOME/.ssh:$source:ro unless keys are in $target already"
        return 0
    fi
    [[ -d $source ]] || fail "SSH keys: $source is not a folder; mount the folder .ssh there, not a file"
    local unreadable=() skipped=() files=() keys=() others=()
    [[ -r $source && -x $source ]] || unreadable=("$(described "$source")")
    local root
    root=$(realpath -e -- "$source")
    [[ $root != "$(realpath -m -- "$target")" ]] || fail "SSH keys: $source and $target are the same folder; mount the keys at /tmp/.ssh"
    (( ${#unreadable[@]} )) || list_files "$root" "" 0
    if (( ${#unreadable[@]} )); then
        local list
        printf -v list '%s, ' "${unreadable[@]}"
        fail "SSH keys: uid $(id -u) cannot read ${list%, }; start the container as root (user: \"0\": it copies the keys and" \
            "drops root), or let uid $(id -u) read them on the host (setfacl -R -m u:$(id -u):rX FOLDER)"
    fi

    make_folder "$target"
    make_folder "$state"
    local name removed=()
    if [[ -f $state/files ]]; then
        while IFS= read -r name; do
            if [[ $name != known_hosts ]] && ! contains "$name" "${files[@]}"; then
                inside "$name" && [[ -f $target/$name || -L $target/$name ]] && rm -f -- "$target/$name"
                removed+=("$name")
            fi
        done < "$state/files"
    fi
    for name in "${files[@]}"; do
        copy_file "$name"
    done
    merge_known_hosts
    if (( ${#files[@]} )); then
        printf '%s\n' "${files[@]}"
    fi | put "$state/files"
    report
}

# A file or folder with its owner and mode.
described() {
    printf '%s (%s)' "$1" "$(stat -L -c 'uid %u, mode %a' -- "$1" 2>&1)"
}

contains() {
    local wanted=$1 item
    shift
    for item; do
        [[ $item != "$wanted" ]] || return 0
    done
    return 1
}

# Put the regular files below the folder $1 into `files`, as paths with the prefix $2; $3 is the depth.
list_files() {
    local folder=$1 prefix=$2 depth=$3 path name real
    for path in "$folder"/*; do
        name=$prefix${path##*/}
        case $name in
            ..* | */..*) continue ;; # Kubernetes' own folders, to which the links of the others lead
            .ssh | .mounted) skipped+=("$name (reserved name)"); continue ;;
            *[[:cntrl:]]*) skipped+=("$name (control character in its name)"); continue ;;
        esac
        if [[ -L $path ]]; then
            real=$(realpath -e -- "$path" 2> /dev/null) || { skipped+=("$name (link to nothing)"); continue; }
            [[ ! -d $real || $folder/ != "$real"/* ]] || { skipped+=("$name (link to a folder above it)"); continue; }
            [[ $real == "$root"/* ]] || { skipped+=("$name (link that leaves the mount)"); continue; }
        else
            real=$path
        fi
        if [[ -d $real ]]; then
            if (( depth == 8 )); then
                skipped+=("$name (too deep)")
            elif [[ -r $real && -x $real ]]; then
                list_files "$real" "$name/" $(( depth + 1 ))
            else
                unreadable+=("$(described "$source/$name")")
            fi
        elif [[ ! -f $real ]]; then
            skipped+=("$name (not a file)")
        elif [[ ! -r $real ]]; then
            unreadable+=("$(described "$source/$name")")
        else
            files+=("$name")
        fi
    done
}

# Make a folder of the target with mode 700, or give an existing one that mode. A link is refused.
make_folder() {
    [[ ! -L $1 ]] || fail "SSH keys: $1 is a link; remove it, keys are copied to real folders only"
    [[ ! -e $1 || -d $1 ]] || fail "SSH keys: $1 is not a folder; remove it"
    mkdir -p -- "$1" || fail "SSH keys: cannot make $1 as uid $(id -u)"
    chmod 700 -- "$1" || fail "SSH keys: cannot set the mode of $1 to 700 as uid $(id -u): it belongs to another account"
    [[ -z $owner ]] || chown -- "$owner" "$1"
}

# Whether no folder between the target and its file $1 is a link.
inside() {
    local folder=$target part
    local parts
    IFS=/ read -ra parts <<< "$1"
    for part in "${parts[@]::${#parts[@]}-1}"; do
        [[ $part != .. ]] || return 1
        folder+=/$part
        [[ -d $folder && ! -L $folder ]] || return 1
    done
}

# Write stdin to the file $1 of the target: complete or not at all, mode 600, the account's.
put() {
    local partial
    partial=$(mktemp -- "${1%/*}/.partial.XXXXXX") || fail "SSH keys: cannot write to ${1%/*} as uid $(id -u)"
    if ! cat > "$partial" || { [[ -n $owner ]] && ! chown -- "$owner" "$partial"; } || ! mv -T -- "$partial" "$1"; then
        rm -f -- "$partial"
        fail "SSH keys: cannot write $1: see the line above"
    fi
}

# Copy one file of the mount, and note what it is.
copy_file() {
    local name=$1 folder=$target part parts first=""
    IFS=/ read -ra parts <<< "$name"
    for part in "${parts[@]::${#parts[@]}-1}"; do
        folder+=/$part
        make_folder "$folder"
    done
    [[ ! -d $target/$name || -L $target/$name ]] ||
        fail "SSH keys: $target/$name is a folder, and a file of that name is in $source; remove the folder"
    IFS= read -r -n 80 first < "$source/$name" 2> /dev/null || true
    case $first in
        *"PRIVATE KEY-----"*) keys+=("$name") ;;
        *) others+=("$name") ;;
    esac
    [[ $name != known_hosts ]] || return 0 # merged, not copied
    if [[ -f $target/$name && ! -L $target/$name ]] && ! listed "$name" &&
        [[ $(sha256sum < "$source/$name") != "$(sha256sum < "$target/$name")" ]]; then
        mv -f -- "$target/$name" "$target/$name.before-mount"
        log "SSH keys: $target/$name did not come from $source: renamed to $name.before-mount"
    fi
    put "$target/$name" < "$source/$name"
}

# Whether an earlier start copied the file $1.
listed() {
    [[ -f $state/files ]] && grep -qxF -e "$1" -- "$state/files"
}

# known_hosts: the lines of the mount, then those that ssh added here. Lines that left the mount go.
merge_known_hosts() {
    local new=/dev/null old=/dev/null mine=$target/known_hosts
    ! contains known_hosts "${files[@]}" || new=$source/known_hosts
    [[ ! -f $state/known_hosts ]] || old=$state/known_hosts
    [[ ! -L $mine ]] || rm -f -- "$mine"
    [[ $new != /dev/null || -f $mine ]] || return 0
    local merged
    merged=$(
        awk 1 "$new" # ends the last line too
        [[ ! -f $mine ]] || grep -vxF -f <(awk NF "$new" "$old") -- "$mine"
    ) || true
    if [[ -n $merged ]]; then
        put "$mine" <<< "$merged"
    else
        rm -f -- "$mine"
    fi
    put "$state/known_hosts" < "$new"
}

# One line about what was found; names only.
report() {
    local message="SSH: ${#keys[@]} private keys"
    (( ${#keys[@]} != 1 )) || message="SSH: 1 private key"
    (( ! ${#keys[@]} )) || message+=" ($(joined "${keys[@]}"))"
    message+=", other files: "
    if (( ${#others[@]} )); then
        message+=$(joined "${others[@]}")
    else
        message+=none
    fi
    local name
    for name in config known_hosts; do
        contains "$name" "${files[@]}" || message+=", no $name"
    done
    message+="; copied from $source to $target"
    (( ! ${#removed[@]} )) || message+="; removed, no longer in the mount: $(joined "${removed[@]}")"
    (( ! ${#skipped[@]} )) || message+="; skipped: $(joined "${skipped[@]}")"
    log "$message"
    if (( ! ${#keys[@]} )); then
        [[ $required != 1 ]] || fail "no private SSH key in $source (SSH_REQUIRED=1)"
        log "warning: no private SSH key in $source; without an agent, no cluster is reachable"
    fi
}

joined() {
    local list
    printf -v list '%s, ' "$@"
    printf '%s' "${list%, }"
}

# In a subshell: umask and options do not reach the scripts that follow.
(mount_ssh)
