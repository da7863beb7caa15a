"""Delete the folders of ended runs, and nothing else.

On the cluster, folders below the data folder are deleted if their name is that of a run which, according to the log,
ended long enough ago; the program that runs there checks the names again. On this machine, folders below the work
folder are deleted if their name is the id of a run.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport import remote_scripts
from biomeroworker.cluster.transport.errors import remote_file_fault
from biomeroworker.config import Settings
from biomeroworker.errors import Blocked, Fault, Permanent, Transient, classify
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

logger = logging.getLogger(__name__)

#: Folders per round; one remote execution deletes all of them.
FOLDERS_PER_ROUND = 25
#: Seconds that the cluster may take for them; no other worker gets the same folders in this time.
REMOVING_SECONDS = 900.0

#: $1 data folder, then names. Prints for each name that it is gone, or why it is not. Of a name that is a link only the
#: link is deleted. ``.<name>.part`` beside a folder is what an interrupted transfer left.
_REMOVE = r"""
cd && cd -- "$1" || exit 66
shift
h='[0-9a-f]'; q="$h$h$h$h"
for n do
  case $n in biomero_$q$q-$q-$q-$q-$q$q$q) ;; *) echo "refused: $n" >&2; exit 77;; esac
done
for n do
  error=$(rm -rf -- "$n" ".$n.part" 2>&1 | head -n 1 | tr -d '\r' | head -c 300)
  if [ -e "$n" ] || [ -L "$n" ]; then printf 'left %s %s\n' "$n" "$error"; else printf 'gone %s\n' "$n"; fi
done
"""

_NAME = re.compile(r"biomero_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def remove_command(data: str, names: Collection[str]) -> list[str]:
    """Build the command that deletes folders of runs below the data folder.

    Raises
    ------
    Permanent
        A name is not that of a run's folder, or the data folder is not an absolute path: nothing is deleted then.
    """
    if not data.startswith("/") or data.strip("/") == "":
        raise Permanent(f"nothing is deleted below {data!r}: it is not an absolute path of a folder")
    for name in names:
        if not _NAME.fullmatch(name):
            raise Permanent(f"{name!r} is not deleted: it is not the folder of a run")
    return remote_scripts.program(_REMOVE, data, *names)


def parse_removed(text: str) -> tuple[set[UUID], dict[UUID, str]]:
    """The runs whose folders are gone, and for the others the reason."""
    gone, left = set(), {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        name, _, why = rest.partition(" ")
        if not _NAME.fullmatch(name):
            continue
        run_id = UUID(name.removeprefix("biomero_"))
        if word == "gone":
            gone.add(run_id)
        elif word == "left":
            left[run_id] = why or "it still exists"
    return gone, left


class RetentionCleaner:
    """Deletes the folders of runs that ended ``retention_days`` ago, a limited number per round."""

    def __init__(self, log: RunLog, clusters: Mapping[str, Cluster], settings: Settings) -> None:
        self._log, self._clusters = log, clusters
        self._days = settings.worker.retention_days
        self._work = settings.worker.work_folder

    def clean_remote(self) -> int:
        """Delete folders on the clusters; return how many were processed. Without any, no cluster is contacted."""
        if self._days == 0:
            return 0
        claimed = self._log.cleanup.claim(timedelta(days=self._days), FOLDERS_PER_ROUND, REMOVING_SECONDS)
        if not claimed:
            return 0
        ends = self._log.cleanup.end_states(claimed)
        self.remove([
            run_id
            for run_id in claimed
            if run_id in ends and ends[run_id][0].is_terminal and self._is_removable(run_id)
        ])  # fmt: skip
        return len(claimed)

    def _is_removable(self, run_id: UUID) -> bool:
        """Whether this version can read the run, and its request does not keep the folder.

        If not, its folder is not deleted, and the others are.
        """
        try:
            run = self._log.run(run_id)
        except Exception as error:
            if isinstance(classify(error), Transient):
                raise
            self._log.cleanup.record_result((), {run_id: f"its history cannot be read: {error}"})
            logger.warning("the folder of run %s is not deleted: its history cannot be read: %s", run_id, error)
            return False
        if run.recorded_request.keep_folder:
            self._log.cleanup.record_preserved(run_id)
            return False
        return True

    def remove(self, run_ids: Collection[UUID]) -> None:
        """Delete the folders of these runs on their clusters, and record the result.

        Raises
        ------
        Permanent
            According to the log, one of them has not ended: none is deleted.
        """
        places: dict[str, list[UUID]] = {}
        never_on_cluster = set()
        for run_id in run_ids:  # read the events, not a table made from them: a deletion cannot be undone
            run = self._log.run(run_id)
            if not run.state.is_terminal:
                raise Permanent(f"the folder of run {run_id} is not deleted: the run has not ended")
            if run.plan:
                places.setdefault(run.plan.cluster, []).append(run_id)
            else:  # it ended before admission
                never_on_cluster.add(run_id)
        self._log.cleanup.record_result(never_on_cluster, {})
        failures = []
        for name, there in places.items():
            try:
                self._remove(self._clusters[name], there)
            except Blocked as blocked:  # the cluster is not in the configuration any more; continue with the others
                self._log.cleanup.record_result((), dict.fromkeys(there, str(blocked)))
                logger.warning("the folders of %d runs are not deleted: %s", len(there), blocked)
            except Fault as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _remove(self, cluster: Cluster, run_ids: Collection[UUID]) -> None:
        layout = cluster.remote_paths
        names = {layout.run_folder(run_id).rpartition("/")[2]: run_id for run_id in run_ids}
        command = remove_command(layout.data, list(names))
        answer = cluster.transport.run(command, timeout=REMOVING_SECONDS * 0.8)
        gone, left = parse_removed(answer.stdout)
        if not gone and not left:
            raise remote_file_fault(f"deleting {len(names)} folders below {layout.data}", answer.stderr)
        self._log.cleanup.record_result(
            gone & set(run_ids), {one: why for one, why in left.items() if one in names.values()}
        )
        for run_id, why in left.items():
            logger.warning("the folder of run %s on the cluster could not be deleted: %s", run_id, why)

    def clean_local(self) -> int:
        """Delete folders on this machine; see `is_expired`. Return how many."""
        folders = local_folders(self._work)
        ends = self._log.cleanup.end_states(folders)
        removed = 0
        for run_id, folder in folders.items():
            if is_expired(run_id, ends, _changed(folder), timedelta(days=self._days), datetime.now(UTC)):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed


def is_expired(
    run_id: UUID,
    ends: Mapping[UUID, tuple[RunState, datetime | None]],
    changed: datetime,
    retention: timedelta,
    now: datetime,
) -> bool:
    """Whether a run's folder on this machine is to be deleted. Pure.

    The folder of a done or cancelled run is deleted soon after its end, that of a failed run after the retention time.
    The folder of a run that this log does not know belongs to another log; it is deleted when nothing in it has changed
    for the retention time.

    Parameters
    ----------
    changed
        When something in the folder last changed.
    retention
        Zero: folders that a person may still want to see are never deleted.
    """
    if run_id not in ends:
        return bool(retention) and now - changed > retention
    state, ended = ends[run_id]
    if not state.is_terminal or ended is None:
        return False
    if state is not RunState.FAILED:  # its last step deletes it too, unless the process was killed before
        return now - ended > timedelta(hours=1)
    return bool(retention) and now - ended > retention


def local_folders(work: Path) -> dict[UUID, Path]:
    """The folders of runs below the work folder: real folders whose name is exactly an id."""
    found = {}
    if work.is_dir():
        for path in work.iterdir():
            try:
                run_id = UUID(path.name)
            except ValueError:
                continue
            if str(run_id) == path.name and path.is_dir() and not path.is_symlink():
                found[run_id] = path
    return found


def _changed(folder: Path) -> datetime:
    newest = 0.0
    for path in (folder, *folder.iterdir()):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except FileNotFoundError:
            newest = time.time()  # another process is working there
    return datetime.fromtimestamp(newest, UTC)
