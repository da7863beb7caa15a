#!/bin/bash
# The job script of all runs: preflight, conversion, container, markers. Its only argument is the attempt's folder.
# A task of an array works in its own folder below it, task-<number>, on the inputs in in/<number>.
#
# Values of the run are in files beside it, which no shell parses:
#   job.conf      key=value lines that the worker writes from its configuration
#   runtime       NUL-separated words that start the workflow's container; its arguments follow
#   arguments     NUL-separated arguments of the container, with the user's values (array: in each task-<number>)
#   converter     NUL-separated words that start a program in the converter's image; missing: the workflow reads OME-Zarr
# It writes the markers started, preflight, exited and results; each is complete when it gets its name.
# Exit codes are listed in markers.py (class JobExit).
set -uo pipefail

attempt=${1:-${SLURM_SUBMIT_DIR:-}}
node=${SLURMD_NODENAME:-$(uname -n)}
started=$SECONDS
stage=preflight
child=
follower=
mark=

log() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# A node that the controller has lost may continue a job that was started again on another node with the same id. Only the
# later start may write; the earlier one changes nothing more.
fence() {
    [[ -z $mark || $(cat -- started 2>/dev/null) == "$mark" ]] && return
    log "this job was started again on another node; this start ends"
    trap - EXIT
    [[ -z $child ]] || kill -KILL "$child" 2>/dev/null
    [[ -z $follower ]] || kill "$follower" 2>/dev/null
    exit 81
}

# publish NAME: write stdin to the file NAME, atomically.
publish() { cat >"$1.part" && mv -f -- "$1.part" "$1"; }

# The end of a job after its preflight: exit code of the container, signal or empty, exit code of this script.
ended() {
    fence
    printf 'stage=%s\ncode=%s\nsignal=%s\njob=%s\nseconds=%s\nnode=%s\n' \
        "$stage" "$1" "$2" "$3" "$((SECONDS - started))" "$node" | publish exited
}

# The node, the data folder or the image is at fault, not the workflow: write the cause, and end before any work.
refuse() {
    log "preflight: $2"
    fence
    printf 'code=%s\nnode=%s\nsentence=%s\n' "$1" "$node" "$2" | publish preflight
    exit "$1"
}

# read_words FILE: the NUL-separated words of FILE into the array `words`.
read_words() {
    local word LC_ALL=C # read bytes in any locale; not passed on to the container
    words=()
    while IFS= read -r -d '' word; do words+=("$word"); done <"$1"
}

# On a signal (scancel, time limit, shutdown of the node): write the marker first, because SIGKILL follows in seconds.
# shellcheck disable=SC2317  # reached through the traps below
interrupted() {
    trap '' TERM INT USR1 XCPU
    log "got SIG$1 during $stage"
    ended "" "$1" 79
    if [[ -n $child ]]; then
        kill -TERM "$child" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$child" 2>/dev/null && sleep 0.2; done
        kill -KILL "$child" 2>/dev/null
    fi
    exit 79
}

# run STDOUT STDERR WORD...: run in the background and wait, so that signals are handled while it runs.
run() {
    local out=$1 err=$2 code
    shift 2
    "$@" >"$out" 2>"$err" </dev/null &
    child=$!
    wait "$child"
    code=$?
    child=
    return "$code"
}

# -- the attempt's folder -----------------------------------------------------------------------------------------
if ! cd -- "$attempt" 2>/dev/null; then
    log "preflight: the folder $attempt is missing on node $node: is the data folder mounted?" >&2
    exit 70
fi
attempt=$PWD

# One job per attempt: the first job that starts is its holder. It may start again (a requeued job has the same id). Any
# other job, and any job after the attempt was abandoned, ends here and changes nothing.
mine=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-none}}
if ! ln -sT -- "$mine" holder 2>/dev/null; then
    holder=$(readlink -- holder) || { log "preflight: $attempt cannot be written on node $node" >&2; exit 70; }
    [[ $holder == "$mine" ]] || { log "the holder of this attempt is $holder, not job $mine: nothing to do" >&2; exit 81; }
fi

# The folder of this job: the whole attempt, or that of one task.
run=$(dirname -- "$attempt")
inputs=$run/in
own=$attempt
# Beside the attempt, not in it: a killed job leaves this folder, and the whole attempt is fetched.
tiff=$run/tiff-${attempt##*-}
task=${SLURM_ARRAY_TASK_ID:-}
if [[ -n $task ]]; then
    # SLURM may no longer list the array; this marker proves that its tasks have started.
    [[ -e started ]] || { printf 'job_id=%s\nnode=%s\n' "$mine" "$node" >".started-$task" && mv -f -- ".started-$task" started; }
    printf -v chunk '%04d' "$task"
    own=$attempt/task-$task inputs=$run/in/$chunk tiff=$tiff-$task
    cd -- "$own" 2>/dev/null || { log "preflight: the folder $own is missing on node $node" >&2; exit 70; }
fi

trap '[[ -z $follower ]] || kill "$follower" 2>/dev/null; rm -rf -- "$tiff"' EXIT
trap 'interrupted TERM' TERM
trap 'interrupted INT' INT
trap 'interrupted USR1' USR1
trap 'interrupted XCPU' XCPU

# A requeued job starts from the beginning: markers and results of an earlier start would be wrong.
rm -rf -- "$tiff" exited results preflight progress out gt ./*.part
printf -v mark 'job_id=%s\nnode=%s\nrestart=%s\ntime=%s' \
    "${SLURM_JOB_ID:-}" "$node" "${SLURM_RESTART_COUNT:-0}" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
printf '%s\n' "$mark" | publish started
[[ -e started ]] || { log "preflight: $own cannot be written on node $node" >&2; exit 70; }

# -- preflight ----------------------------------------------------------------------------------------------------
program='' image='' converter_image='' data_folder=$attempt min_free_kib=0 min_temporary_kib=0
[[ -r $attempt/job.conf && -r $attempt/runtime && -r arguments ]] || refuse 71 "settings in $attempt are missing or cannot be read"
while IFS='=' read -r key value; do
    case $key in
        program | image | converter_image | data_folder | min_free_kib | min_temporary_kib) printf -v "$key" '%s' "$value" ;;
    esac
done <"$attempt/job.conf"

head -c 1 -- "$run/inputs.json" >/dev/null 2>&1 || refuse 71 "the input manifest cannot be read on node $node"
[[ -d $inputs && -r $inputs ]] || refuse 71 "the input folder $inputs cannot be read on node $node"

for file in "$image" "$converter_image"; do
    [[ -z $file ]] && continue
    if [[ -d $file ]]; then
        ls -- "$file" >/dev/null 2>&1
    else
        head -c 4096 -- "$file" >/dev/null 2>&1
    fi || refuse 72 "the container image $file cannot be read on node $node"
done

read_words "$attempt/runtime"
[[ ${#words[@]} -gt 0 ]] || refuse 71 "the file runtime in $attempt is empty"
command -v -- "${program:-${words[0]}}" >/dev/null 2>&1 || refuse 73 "${program:-${words[0]}} is not on node $node"
runtime=("${words[@]}")
read_words arguments
runtime+=("${words[@]}")

# has_room FOLDER KIB
has_room() {
    local free
    free=$(df -Pk -- "$1" 2>/dev/null | awk 'NR == 2 { print $4 }')
    [[ -z $free || $free -ge $2 ]]
}
has_room "$own" "$min_free_kib" ||
    refuse 74 "less than $((min_free_kib / 1024)) MiB are free in the data folder $data_folder"
has_room "${TMPDIR:-/tmp}" "$min_temporary_kib" ||
    refuse 75 "less than $((min_temporary_kib / 1024)) MiB are free in ${TMPDIR:-/tmp} on node $node"
mkdir -p -- out gt || refuse 74 "folders cannot be made in $own"

# -- conversion ---------------------------------------------------------------------------------------------------
if [[ -e $attempt/converter ]]; then
    stage=conversion
    log "converting OME-Zarr to TIFF on $node"
    read_words "$attempt/converter"
    run convert.out convert.err "${words[@]}" python3 "$attempt/convert.py" "$inputs" "$tiff" \
        --jobs "${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}" --progress "$own/progress"
    code=$?
    if [[ $code -ne 0 ]]; then
        log "the conversion ended with exit code $code"
        ended "$code" "" 76
        exit 76
    fi
fi

# follow FILE...: write the last NN% that a program has printed to the file progress.
follow() {
    local percent
    while sleep 5; do
        percent=$(tail -qc 2048 -- "$@" | grep -aoE '(^|[^0-9.])(100|[0-9]{1,2})(\.[0-9]+)?%' | tail -n 1 | tr -cd '0-9.')
        [[ -z $percent ]] || printf '%s\n' "$percent" | publish progress
    done
}

# -- the workflow -------------------------------------------------------------------------------------------------
stage=container
log "starting the container on $node"
rm -f -- progress # of the conversion
follow container.out container.err >/dev/null 2>&1 &
follower=$!
run container.out container.err "${runtime[@]}"
code=$?
kill "$follower" 2>/dev/null
follower=
log "the container ended with exit code $code"
if [[ $code -ne 0 ]]; then
    ended "$code" "" 77
    exit 77
fi
if [[ -z $(find out -type f -print -quit) ]]; then
    log "the container wrote nothing to out/"
    ended 0 "" 78
    exit 78
fi

# -- results ------------------------------------------------------------------------------------------------------
stage=results
if ! (cd out && find . -type f -printf '%s %P\0' | LC_ALL=C sort -z -k 2 | while IFS=' ' read -r -d '' size path; do
    sum=$(sha256sum <"./$path") || exit 1
    printf '%s %s %s\0' "${sum%% *}" "$size" "$path"
done) >results.part; then
    log "the results cannot be read"
    ended 0 "" 80
    exit 80
fi
ended 0 "" 0 || exit 80
fence
mv -f results.part results || exit 80
log "done"
exit 0
