"""Remove what ended runs have left behind, and never anything else.

What is removed on the cluster is named by the run's id below the data folder, and only when the log says that the run
ended long enough ago; the program there refuses every other name once more. What is removed here are folders named by
a run's id below the work folder.
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

#: Folders per round: one execution removes all of them.
FOLDERS_PER_ROUND = 25
#: The cluster may take so long for them; nobody else is given them meanwhile.
REMOVING_SECONDS = 900.0

#: $1 data folder, then names. Says of each name that it is gone, or why it is not. A name that is a link loses the link
#: only: nothing is removed through one. Beside a folder lies what a transfer that was cut off has staged.
_REMOVE = r"""
cd && cd -- "$1" || exit 66
shift
h='[0-9a-f]'; q="$h$h$h$h"
for n do
  case $n in biomero_$q$q-$q-$q-$q-$q$q$q) ;; *) echo "refused: $n" >&2; exit 77;; esac
done
for n do
  said=$(rm -rf -- "$n" ".$n.part" 2>&1 | head -n 1 | tr -d '\r' | head -c 300)
  if [ -e "$n" ] || [ -L "$n" ]; then printf 'kept %s %s\n' "$n" "$said"; else printf 'gone %s\n' "$n"; fi
done
"""

_NAME = re.compile(r"biomero_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def remove_command(data: str, names: Collection[str]) -> list[str]:
    """Remove folders of runs below the data folder, in one execution.

    Raises
    ------
    Permanent
        A name is none of a run's folder, or the data folder is no absolute path: nothing is removed then.
    """
    if not data.startswith("/") or data.strip("/") == "":
        raise Permanent(f"nothing is removed below {data!r}: it is no folder of its own")
    for name in names:
        if not _NAME.fullmatch(name):
            raise Permanent(f"{name!r} is not removed: it is not the folder of a run")
    return remote_scripts.program(_REMOVE, data, *names)


def parse_removed(text: str) -> tuple[set[UUID], dict[UUID, str]]:
    """Which folders are gone, and which are not and why."""
    gone, kept = set(), {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        name, _, why = rest.partition(" ")
        if not _NAME.fullmatch(name):
            continue
        run_id = UUID(name.removeprefix("biomero_"))
        if word == "gone":
            gone.add(run_id)
        elif word == "kept":
            kept[run_id] = why or "it is still there"
    return gone, kept


class RetentionCleaner:
    """Removes the folders of runs that ended `retention_days` ago, a bounded number per round."""

    def __init__(self, log: RunLog, clusters: Mapping[str, Cluster], settings: Settings) -> None:
        self._log, self._clusters = log, clusters
        self._days = settings.worker.retention_days
        self._work = settings.worker.work_folder

    def clean_remote(self) -> int:
        """Remove folders on the cluster; how many were looked after. Without any, nothing is asked of the cluster."""
        if self._days == 0:
            return 0
        claimed = self._log.cleanup.claim(timedelta(days=self._days), FOLDERS_PER_ROUND, REMOVING_SECONDS)
        if not claimed:
            return 0
        ends = self._log.cleanup.end_states(claimed)
        self.remove([
            run_id
            for run_id in claimed
            if run_id in ends and ends[run_id][0].is_terminal and self._is_readable(run_id)
        ])  # fmt: skip
        return len(claimed)

    def _is_readable(self, run_id: UUID) -> bool:
        """Whether this version can read the run; the folder of one that it cannot stays, and keeps no other's."""
        try:
            self._log.run(run_id)
        except Exception as error:
            if isinstance(classify(error), Transient):
                raise
            self._log.cleanup.record_result((), {run_id: f"its history cannot be read: {error}"})
            logger.warning("the folder of run %s stays: its history cannot be read: %s", run_id, error)
            return False
        return True

    def remove(self, run_ids: Collection[UUID]) -> None:
        """Remove the folders of these runs on the cluster, and note it; refused unless the log says that each ended.

        Raises
        ------
        Permanent
            One of them has not ended, or is unknown: none is removed.
        """
        places: dict[str, list[UUID]] = {}
        nowhere = set()
        for run_id in run_ids:  # the run itself is asked, not a table made from it: this cannot be undone
            run = self._log.run(run_id)
            if not run.state.is_terminal:
                raise Permanent(f"the folder of run {run_id} is not removed: it has not ended")
            if run.plan:
                places.setdefault(run.plan.cluster, []).append(run_id)
            else:  # it ended before admission: nothing of it was ever on a cluster
                nowhere.add(run_id)
        self._log.cleanup.record_result(nowhere, {})
        failures = []
        for name, there in places.items():
            try:
                self._remove(self._clusters[name], there)
            except Blocked as blocked:  # the cluster is in the configuration no more; the others are looked after
                self._log.cleanup.record_result((), dict.fromkeys(there, str(blocked)))
                logger.warning("folders of %d runs are not removed: %s", len(there), blocked)
            except Fault as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _remove(self, cluster: Cluster, run_ids: Collection[UUID]) -> None:
        layout = cluster.remote_paths
        names = {layout.run_folder(run_id).rpartition("/")[2]: run_id for run_id in run_ids}
        command = remove_command(layout.data, list(names))
        answer = cluster.transport.run(command, timeout=REMOVING_SECONDS * 0.8)
        gone, kept = parse_removed(answer.stdout)
        if not gone and not kept:
            raise remote_file_fault(f"removing {len(names)} folders below {layout.data}", answer.stderr)
        self._log.cleanup.record_result(
            gone & set(run_ids), {one: why for one, why in kept.items() if one in names.values()}
        )
        for run_id, why in kept.items():
            logger.warning("the folder of run %s on the cluster could not be removed: %s", run_id, why)

    def clean_local(self) -> int:
        """Remove folders on this machine: of runs that ended well at once, of others after the retention time.

        A folder of a run that the log does not know, which can only be another log's, goes when nothing in it has
        changed for that long.
        """
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
    """Whether a run's folder on this machine has served. Pure.

    Parameters
    ----------
    changed
        When something in the folder last changed.
    retention
        Zero keeps for ever what may still be looked at.
    """
    if run_id not in ends:
        return bool(retention) and now - changed > retention
    state, ended = ends[run_id]
    if not state.is_terminal or ended is None:
        return False
    if state is not RunState.FAILED:  # the carrier drops it as well, but it may have died before
        return now - ended > timedelta(hours=1)
    return bool(retention) and now - ended > retention


def local_folders(work: Path) -> dict[UUID, Path]:
    """The folders of runs below the work folder: real folders, named exactly by an id."""
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
            newest = time.time()  # somebody is at work there
    return datetime.fromtimestamp(newest, UTC)
