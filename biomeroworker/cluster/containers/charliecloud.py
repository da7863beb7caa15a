"""Charliecloud: ``ch-image`` pulls, ``mksquashfs`` packs, ``ch-run`` runs; all of them without privileges.

ch-run ignores entry points and the image's environment, cannot make a mount point in a read-only image, and returns
exit code 1 after a signal. This module adds what is missing, so that a container runs as with Apptainer:

* The pull stores entry point, command and environment of the image's configuration beside the image in
  ``<image>.entry``, and makes mount points for the configured folders before the image is packed. If the configured
  folders change, ``biomeroworker init`` pulls the image again.
* A run's folder is below the data folder, which is a mount point. A skeleton of the data folder with only this run's
  folder is bound there first. So a container sees its own run and no other.
* The image's ``/bin/sh``, if there is one, starts the entry point, and returns 128 plus the number of a signal.
* For GPUs the node's NVIDIA libraries are bound below ``/ch``, with links to only these, at the time of the run: the
  image contains no part of a driver.

``ch-image`` uses only HTTPS: for an insecure registry the certificate is not checked. ``ch-run`` must be built with
SquashFS support (``libsquashfuse``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomeroworker.cluster.containers import pull_script
from biomeroworker.cluster.containers.apptainer import FOREIGN
from biomeroworker.cluster.containers.runtime import Reference, plain
from biomeroworker.domain.cluster_paths import is_below_home
from biomeroworker.errors import ConfigError

#: Run by the login node's python3, which ch-image needs too. Arguments: the home folder, the unpacked image, the output
#: folder, the mount points. Items of ``entry`` end with NUL; their first letter is their kind.
_PREPARE = r"""
import json, os, sys

home, root, out, mounts = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
with open(os.path.join(root, "ch", "config.pulled.json"), encoding="utf-8") as stream:
    config = json.load(stream).get("config") or {}
wanted = [os.path.normpath(os.path.join(home, mount)) for mount in mounts]
for mount in ["/ch/gpu", "/ch/gpu0", "/ch/gpu1", "/ch/gpu2", "/ch/gpu3"] + wanted:
    at = root
    for part in mount.strip("/").split("/"):
        at = os.path.join(at, part)
        if os.path.islink(at):
            sys.exit("the image has a link at %s: no mount point for %s can be made there" % (at[len(root):], mount))
        if not os.path.isdir(at):
            os.mkdir(at, 0o755)
for name in ("dev", "proc", "sys", "tmp", "etc"):
    os.makedirs(os.path.join(root, name), exist_ok=True)
for name in ("passwd", "group", "hosts", "resolv.conf"):
    if not os.path.lexists(os.path.join(root, "etc", name)):
        open(os.path.join(root, "etc", name), "w").close()
items = ["M" + mount for mount in wanted]
if os.path.lexists(os.path.join(root, "bin", "sh")):
    items += ["L" + word for word in ("/bin/sh", "-c", '"$@"; exit $?', "sh")]
items += ["V" + line for line in config.get("Env") or []]
items += ["E" + word for word in config.get("Entrypoint") or []]
items += ["C" + word for word in config.get("Cmd") or []]
with open(os.path.join(out, "entry"), "wb") as stream:
    for item in items:
        stream.write(item.encode("utf-8", "surrogateescape") + b"\0")
facts = {"mounts": mounts, "entrypoint": config.get("Entrypoint"), "cmd": config.get("Cmd"),
         "workdir": config.get("WorkingDir")}
with open(os.path.join(out, "facts"), "w", encoding="ascii") as stream:
    stream.write(", " + json.dumps(facts)[1:-1])
"""

#: $1 the program above, $2 whether to skip the check of the registry's certificate; then the mount points.
_FETCH = r"""
fetch() {
  prepare=$1 unchecked=$2
  shift 2
  needed python3
  needed mksquashfs
  storage=$folder/storage
  if [ -n "$tmpdir" ]; then
    elsewhere=$(mktemp -d -- "$tmpdir/ch-XXXXXXXX")
    ln -s "$elsewhere" "$folder/elsewhere"
    storage=$elsewhere/storage
  fi
  login=
  if [ -n "$username" ]; then
    export CH_IMAGE_USERNAME="$username" CH_IMAGE_PASSWORD="$password"
  fi
  [ -z "${CH_IMAGE_USERNAME:-}" ] || login=--auth
  [ "$unchecked" = no ] || unchecked=--tls-no-verify
  [ "$unchecked" != no ] || unchecked=
  "$program" --no-cache -s "$storage" ${login:+"$login"} ${unchecked:+"$unchecked"} pull "$reference" fetched
  unset CH_IMAGE_USERNAME CH_IMAGE_PASSWORD
  python3 -c "$prepare" "$(pwd)" "$storage/img/fetched" "$folder" "$@"
  mksquashfs "$storage/img/fetched" "$folder/image" -noappend -no-progress -quiet -comp gzip -Xcompression-level 3
}
"""

#: bash. $1 ch-run, $2 run or exec, $3 image, $4 gpu or empty, $5 number of folders, $6 number of additional binds; then
#: these, then the words of the container.
_RUN = r"""
program=$1 verb=$2 image=$3 gpu=$4 folders=("${@:7:$5}") binds=("${@:7+$5:$6}")
shift "$((6 + $5 + $6))"
fatal() { printf 'FATAL: %s on %s\n' "$*" "$(uname -n)" >&2; exit 255; }
program=$(command -v -- "$program") || fatal "$1 was not found"
[[ -r $image ]] || fatal "the image $image cannot be read"
[[ -r $image.entry ]] || fatal "$image.entry cannot be read (biomeroworker init makes it)"
export USER=${USER:-$(id -un)}

launcher=() mounts=() variables=() entry=() cmd=() options=(--env-no-expand --unset-env=LD_LIBRARY_PATH)
read_entry() {
  local item LC_ALL=C
  while IFS= read -r -d '' item; do
    case $item in
      L*) launcher+=("${item:1}") ;;
      M*) mounts+=("${item:1}") ;;
      V*) variables+=("${item:1}") ;;
      E*) entry+=("${item:1}") ;;
      C*) cmd+=("${item:1}") ;;
    esac
  done <"$image.entry"
}
read_entry

# ch-run removes the quotes. The image's variables are set, as with Apptainer.
set_variable() { options+=("--set-env=$1='$2'"); }
set_variable PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin libraries=
for item in "${variables[@]}"; do
  name=${item%%=*} value=${item#*=}
  [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || continue
  case $name in
    PATH) path=$value; set_variable PATH "$value" ;;
    LD_LIBRARY_PATH) libraries=$value; set_variable "$name" "$value" ;;
    HOME) ;;
    *) set_variable "$name" "$value" ;;
  esac
done

place=/
for folder in "${folders[@]}"; do
  skeleton=
  for mount in "${mounts[@]}"; do
    [[ $folder == "$mount"/* ]] || continue
    skeleton=${folders[0]}/.mount/${mount//\//+}
    mkdir -p -- "$skeleton/${folder#"$mount"/}" || fatal "$skeleton cannot be made"
    case " ${options[*]} " in *" --bind=$skeleton:$mount "*) ;; *) options+=("--bind=$skeleton:$mount") ;; esac
  done
  options+=("--bind=$folder:$folder")
  [[ $place != / ]] || place=$folder
  [[ $PWD == "$folder" || $PWD == "$folder"/* ]] && place=$PWD
done
for folder in "${binds[@]}"; do options+=("--bind=${folder%:rw}"); done
if [[ ${#folders[@]} -gt 0 ]]; then set_variable HOME "${folders[0]}"; fi

if [[ -n $gpu ]]; then
  farm=${folders[0]:-${TMPDIR:-/tmp}}/.gpu-$(uname -n)-$(id -u)
  mkdir -p -- "$farm" || fatal "$farm cannot be made"
  places=()
  declare -A seen=()
  vendor='^lib(cuda|cudadebugger|nvidia-[a-z0-9-]+|nvcuvid|nvoptix|(EGL|GLX|GLESv[0-9A-Z_]+)_nvidia)\.so'
  while read -r line; do
    [[ $line =~ ^([^ ]+)\ \(([^\)]*)\)\ =\>\ (/.+)$ ]] || continue
    name=${BASH_REMATCH[1]} kind=${BASH_REMATCH[2]} file=${BASH_REMATCH[3]} number=
    [[ $name =~ $vendor && $kind =~ (x86-64|AArch64) && -z ${seen[$name]:-} ]] || continue
    seen[$name]=yes
    for known in "${!places[@]}"; do [[ ${places[known]} != "${file%/*}" ]] || number=$known; done
    if [[ -z $number ]]; then
      [[ ${#places[@]} -lt 4 ]] || continue
      number=${#places[@]}
      places+=("${file%/*}")
      options+=("--bind=${file%/*}:/ch/gpu$number")
    fi
    ln -sfn -- "../gpu$number/${file##*/}" "$farm/$name"
  done < <(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null)
  if [[ ${#places[@]} -eq 0 ]]; then
    echo "biomeroworker: there are no NVIDIA libraries on $(uname -n)" >&2
  fi
  if tool=$(command -v nvidia-smi); then cp -f -- "$tool" "$farm/nvidia-smi" 2>/dev/null; fi
  options+=("--bind=$farm:/ch/gpu")
  set_variable LD_LIBRARY_PATH "/ch/gpu${libraries:+:$libraries}"
  set_variable PATH "$path:/ch/gpu"
fi

words=("$@")
if [[ $verb == run ]]; then
  [[ $# -gt 0 ]] || words=("${cmd[@]}")
  words=("${entry[@]}" "${words[@]}")
  [[ ${#words[@]} -gt 0 ]] || fatal "the image $image has neither an entry point nor a command, and none was given"
fi
exec "$program" "${options[@]}" "--cd=$place" "$image" -- "${launcher[@]}" "${words[@]}"
"""


class Charliecloud:
    """Command lines for ``ch-image`` and ``ch-run``.

    Parameters
    ----------
    data
        The data folder of runs: absolute, or below the cluster user's home.
    binds
        Additional folders of the cluster that all containers see; also ``/source:/target``.
    insecure_registries
        ``host`` or ``host:port`` of registries whose certificate is not checked, like those on the loopback device.
    tmpdir
        Where pulls unpack images; empty: beside the image.
    """

    suffix = ".sqfs"
    program = "ch-run"

    def __init__(
        self,
        *,
        data: str,
        binds: Sequence[str] = (),
        insecure_registries: Sequence[str] = (),
        tmpdir: str = "",
    ) -> None:
        self._binds = tuple(binds)
        for bind in filter(is_below_home, binds):
            raise ConfigError(f"[SLURM] slurm_data_bind_path: {bind!r}: Charliecloud needs an absolute path")
        if any(text.endswith(":ro") for text in self._binds):
            raise ConfigError("[SLURM] slurm_data_bind_path: Charliecloud cannot bind a folder read-only")
        targets = [text.split(":")[min(1, text.count(":"))] for text in self._binds]
        self._mounts = [data, *targets]
        self._insecure = frozenset(insecure_registries)
        self._tmpdir = tmpdir

    def run_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs the image's own entry point."""
        return self._prefix("run", image, binds, gpu)

    def exec_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs a program in the image."""
        return self._prefix("exec", image, binds, gpu)

    def _prefix(self, verb: str, image: str, binds: Sequence[str], gpu: bool) -> list[str]:
        env = ["env", *(word for name in FOREIGN for word in ("-u", name))]
        folders = list(dict.fromkeys(map(plain, binds)))
        counts = [str(len(folders)), str(len(self._binds))]
        options = [self.program, verb, image, "gpu" if gpu else "", *counts, *folders, *self._binds]
        return [*env, "bash", "-c", _RUN, "container", *options]

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        """Put an image at ``target``, atomically."""
        unchecked = reference.is_loopback or reference.registry in self._insecure
        return pull_script.pull_command(
            _FETCH,
            reference,
            target,
            program="ch-image",
            words=[_PREPARE, "yes" if unchecked else "no", *self._mounts],
            tmpdir=self._tmpdir,
            replace=replace,
        )

    def outdated(self, record: Mapping[str, Any]) -> str:
        """Names configured folders for which the image has no mount point."""
        there = record.get("mounts")
        missing = [mount for mount in self._mounts if not isinstance(there, list) or mount not in there]
        return f"it has no mount point for {', '.join(missing)}" if missing else ""
