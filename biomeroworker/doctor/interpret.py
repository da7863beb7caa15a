"""Turn the front-end's answers into findings. Pure functions.

A finding that is not ok names the line of the ini to change, if a change of the ini can help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from biomeroworker.cluster.slurm.parsing import node_is_out, state_of
from biomeroworker.cluster.slurm.submit_errors import classify_submission
from biomeroworker.cluster.transport.errors import python_fault
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.config import ClusterSettings, Settings
from biomeroworker.config.fields import Located
from biomeroworker.doctor.front_end import PROGRAMS, PULL_PROGRAMS, Answer
from biomeroworker.domain.findings import Finding, fail, fault_of, ok, warn

#: Keys of the ini that name the folders to check on the cluster.
FOLDERS = ("slurm_data_path", "slurm_images_path", "slurm_converters_path")
#: Differences between the clocks. Job queries start one hour early (`cluster.slurm`), so half an hour is still safe.
_SKEW_WARN_SECONDS, _SKEW_FAIL_SECONDS = 30.0, 1800.0
#: A folder for which the file system has fewer free inodes is reported.
_FEW_INODES = 100_000
#: A quota that is used to more than this share is reported as nearly full.
_QUOTA_WARN_SHARE = 0.9
#: Types of file systems that exist on one machine only.
_LOCAL_FILE_SYSTEMS = ("tmpfs", "ramfs", "overlayfs")


@dataclass(frozen=True)
class Test:
    """A set of sbatch options to check, and the workflows whose jobs have these options."""

    workflows: tuple[str, ...]
    options: Mapping[str, str]
    gpu: bool = False


def examine(
    settings: Settings,
    cluster: ClusterSettings,
    answer: Answer,
    tests: Sequence[Test],
    seen: tuple[float, float],
    runtime: str,
) -> Iterator[Finding]:
    """Yield all findings about one front-end.

    Parameters
    ----------
    cluster
        The settings of the cluster that is examined.
    seen
        This machine's clock before and after the query, in seconds since 1970.
    runtime
        The container program.
    """
    host = cluster.line("SSH", "host")
    yield from _clock(answer, seen)
    yield from _environment(answer)
    for number, key in enumerate(FOLDERS):
        yield from _folder(cluster, key, answer[f"folder {number}"].lines)
    yield from _quota(cluster, answer)
    yield _python(cluster, answer)
    yield _runtime(cluster, answer, runtime)
    missing = [name for name in PROGRAMS if not answer.value(f"program {name}")]
    if missing:
        message = f"not in the PATH of commands over SSH: {', '.join(missing)}"
        remedy = "use a login node that has SLURM, or set PATH in ~/.bashrc (not ~/.bash_profile) on it"
        yield fail("slurm", message, remedy, host)
        return
    config = answer.values("config")
    if answer["config"].code:
        yield fail("slurm", f"slurmctld does not answer: {answer['config'].last}", "contact the site", host)
        return
    yield ok("slurm", f"{config.get('SLURM_VERSION', '')} {config.get('ClusterName', '')}".strip())
    yield from _accounting(answer, config)
    yield from _partitions(settings, cluster, answer)
    yield from _gpus(settings, cluster, answer)
    yield from _accounts(cluster, answer, config)
    for number, test in enumerate(tests):
        yield _test(settings, cluster, test, answer, number)


def _clock(answer: Answer, seen: tuple[float, float]) -> Iterator[Finding]:
    remote = answer.value("clock")
    if not remote.isdigit():
        return
    there, (before, after) = float(remote), seen
    skew = max(0.0, before - 1 - there, there - after - 1)  # the remote clock is given in whole seconds
    message = f"{skew:.0f} s apart" if skew else "the same on both sides"
    remedy = "synchronise the clocks (chrony, ntpd)"
    if skew > _SKEW_FAIL_SECONDS:
        yield fail("clock", message, remedy)
    elif skew > _SKEW_WARN_SECONDS:
        yield warn("clock", message, remedy)
    else:
        yield ok("clock", message)


def _python(cluster: ClusterSettings, answer: Answer) -> Finding:
    found = answer["python"]
    if found.code == 0:
        return ok("python", found.last)
    return fault_of("python", python_fault(cluster.ssh.host, found.last), "", cluster.line("SSH", "host"))


def _environment(answer: Answer) -> Iterator[Finding]:
    found = [name for name in answer["environment"].lines if re.fullmatch(r"[A-Z_]+", name)]
    changing = [name for name in found if name.startswith(("SBATCH_", "SINGULARITY", "APPTAINER"))]
    if changing:
        yield warn(
            "environment",
            f"the account sets {', '.join(sorted(changing))}, which changes every job or container",
            "unset them for commands over SSH, and set the options in the ini (sbatch_<flag>, apptainer_tmpdir, …)",
        )
    else:
        yield ok("environment", "no variable of the account changes jobs or containers")


def _folder(cluster: ClusterSettings, key: str, lines: Sequence[str]) -> Iterator[Finding]:
    path, line = str(getattr(cluster.slurm, key)), cluster.line("SLURM", key)
    facts = dict(text.partition(" ")[::2] for text in lines)
    if "nearest" not in facts:
        yield fail(key, f"{path} cannot be examined", "set it to a path on the cluster", line)
        return
    if "exists" not in facts:
        if "can-be-made" in facts:
            yield fail(key, f"{path} does not exist", "create it: biomeroworker init", line)
        else:
            message = f"{path} does not exist, and the account cannot write to {facts['nearest']}"
            yield fail(key, message, "choose another path", line)
        return
    if "folder" not in facts or "writable" not in facts:
        what = "is not a folder" if "folder" not in facts else "is not writable for the account"
        yield fail(key, f"{path} {what}", "choose another path, or give the account access", line)
        return
    file_system = facts.get("type", "")
    free_gb = int(facts["free"]) * 1024 / 1e9 if facts.get("free", "").isdigit() else None
    message = (
        f"{path}{f', {free_gb:.0f} GB free' if free_gb is not None else ''}{f' ({file_system})' if file_system else ''}"
    )
    if file_system in _LOCAL_FILE_SYSTEMS:
        yield warn(key, f"{message}: other nodes do not see this file system", "choose a path on shared storage", line)
        return
    if key == "slurm_data_path" and free_gb is not None and free_gb < cluster.slurm.free_space_gb:
        guard = cluster.line("SLURM", "free_space_gb")
        limit = f"{cluster.slurm.free_space_gb:g} GB must stay free"
        yield fail(key, f"{message}; {limit}", "free some space, or lower the limit", guard)
    elif facts.get("inodes", "").isdigit() and 0 < int(facts["inodes"]) < _FEW_INODES:
        yield warn(
            key, f"{message}; room for {facts['inodes']} more files", "remove files, or choose another path", line
        )
    else:
        yield ok(key, message)


def _quota(cluster: ClusterSettings, answer: Answer) -> Iterator[Finding]:
    """Read ``quota -w -p``: file system, blocks, soft limit, hard limit, grace, files, soft, hard, grace.

    A star behind the blocks marks a quota that is exceeded.
    """
    setting = cluster.line("SLURM", "slurm_data_path")
    remedy = "remove files, or choose a path on other storage"
    for line in answer["quota"].lines:
        columns = line.split()
        if len(columns) < 4 or not re.fullmatch(r"\d+\*?", columns[1]):
            continue
        used, limits = int(columns[1].rstrip("*")), [int(text) for text in columns[2:4] if text.isdigit() and int(text)]
        if not limits:
            continue
        message = f"{used / 1e6:.1f} of {min(limits) / 1e6:.1f} GB on {columns[0]}"
        if columns[1].endswith("*") or used >= min(limits):
            yield fail("quota", f"{message}: full", remedy, setting)
        elif used > _QUOTA_WARN_SHARE * min(limits):
            yield warn("quota", f"{message}: nearly full", remedy, setting)
        else:
            yield ok("quota", message)


def _runtime(cluster: ClusterSettings, answer: Answer, program: str) -> Finding:
    line = cluster.line("SLURM", "container_runtime")
    missing = [name for name in PULL_PROGRAMS.get(program, ()) if not answer.value(f"program {name}")]
    if not answer.value(f"program {program}"):
        message = f"{program} is not in the PATH of the login node"
    elif answer["runtime"].code:
        message = f"{program} does not work: {answer['runtime'].last}"
    elif missing:
        message = f"{', '.join(missing)} not in the PATH of the login node: images cannot be pulled there"
    else:
        return ok("container runtime", answer["runtime"].last or program)
    if cluster.slurm.slurm_image_pull_via_sbatch:
        return warn("container runtime", f"{message}; images are pulled by jobs, see --probe-nodes", "", line)
    return fail(
        "container runtime",
        message,
        "set it to the one that the cluster has: apptainer, singularity or charliecloud",
        line,
    )


def _accounting(answer: Answer, config: Mapping[str, str]) -> Iterator[Finding]:
    kind = config.get("AccountingStorageType", "")
    if answer["accounting"].code:
        message = f"sacct does not answer ({answer['accounting'].last})"
        if kind.endswith("/none"):
            message = "this cluster does not record finished jobs (AccountingStorageType none)"
        age = config.get("MinJobAge", "300 sec")
        yield warn(
            "sacct",
            f"{message}: the final state of a job comes from the queue only, for {age} after its end",
            "set poll_seconds well below that time",
        )
        return
    queue = {row[0] for row in answer.rows("queue", 2) if state_of(row[1]).is_terminal}
    states = {row[0]: row[1] for row in answer.rows("accounting", 2)}
    behind = sorted(job for job in queue if not state_of(states.get(job, "")).is_terminal)
    window = answer.value("purge")
    message = {"": "gives no limit for old records", "NONE": "keeps records for ever"}.get(
        window, f"keeps records for {window}"
    )
    if behind:
        missing = f"no final state yet for {len(behind)} of {len(queue)} ended jobs"
        yield warn("sacct", f"{message}; {missing}", "the accounting database is behind; wait")
    elif queue:
        yield ok("sacct", f"{message}; has the final states of all {len(queue)} recent jobs")
    else:
        yield ok("sacct", f"{message}; no job ended recently")


def _partitions(settings: Settings, cluster: ClusterSettings, answer: Answer) -> Iterator[Finding]:
    known = {record["PartitionName"]: record for record in answer.records("partitions") if "PartitionName" in record}
    nodes: dict[str, list[str]] = {}
    for _, partition, state, *_ in answer.rows("nodes", 3):
        nodes.setdefault(partition.rstrip("*"), []).append(state)
    named = named_partitions(settings, cluster)
    if not named:
        default = [name for name, record in known.items() if record.get("Default") == "YES"]
        if not default:
            line = cluster.line("SLURM", "slurm_default_partition")
            message = f"the cluster has no default partition; it has {', '.join(known)}"
            yield fail("partition", message, "set one of these", line)
            return
        named = {default[0]: cluster.line("SLURM", "slurm_default_partition")}
    for name, line in named.items():
        if name not in known:
            message = f"does not exist; the cluster has {', '.join(sorted(known))}"
            yield fail(f"partition {name}", message, "set one of these", line)
            continue
        states = nodes.get(name, [])
        usable = [state for state in states if not node_is_out(state)]
        message = f"{len(usable)} of {len(states)} nodes accept jobs; time limit {known[name].get('MaxTime', '?')}"
        remedy = "choose another partition, or contact the site"
        if known[name].get("State", "UP") != "UP":
            yield fail(f"partition {name}", f"is {known[name]['State']}", remedy, line)
        elif not usable:
            yield fail(f"partition {name}", message, remedy, line)
        else:
            yield (ok if len(usable) == len(states) else warn)(f"partition {name}", message)


def named_partitions(settings: Settings, cluster: ClusterSettings) -> dict[str, str]:
    """The partitions that the configuration names, each with the first line of the ini that names it."""
    slurm = cluster.slurm
    given = [
        (slurm.slurm_default_partition, cluster.line("SLURM", "slurm_default_partition")),
        (slurm.sbatch.get("partition"), cluster.line("SLURM", "sbatch_partition")),
        (slurm.gpu_partition, cluster.line("SLURM", "gpu_partition")),
        *(
            (workflow.job_params.get("partition"), settings.line("WORKFLOWS", f"{name}_job_partition"))
            for name, workflow in settings.workflows_on(cluster.name).items()
        ),
    ]
    found: dict[str, str] = {}
    for names, line in given:
        for name in (names or "").split(","):
            if name.strip():
                found.setdefault(name.strip(), line)
    return found


def _gpus(settings: Settings, cluster: ClusterSettings, answer: Answer) -> Iterator[Finding]:
    slurm = cluster.slurm
    using = [name for name, one in settings.workflows_on(cluster.name).items() if one.use_gpu]
    requested = slurm.gpu_gres or slurm.gpu_gpus
    if not using and not requested:
        return
    offers = gpus_by_partition(answer.rows("nodes", 4))
    offered = "; ".join(f"{name}: {', '.join(sorted(kinds))}" for name, kinds in sorted(offers.items()))
    partition = slurm.gpu_partition or slurm.slurm_default_partition
    without = [name for name in using if not requested and not requests_gpus(settings.workflows[name].job_params)]
    if partition and partition not in offers:
        message = f"partition {partition} has no GPUs ({offered or 'no partition has any'})"
        yield fail("gpu", message, "choose a partition with GPUs", cluster.line("SLURM", "gpu_partition"))
    elif without:
        message = f"{', '.join(without)} would get no GPU, because no option requests one"
        remedy = "set gpu_gres = gpu:1 (some sites: gpu_gpus = 1)"
        yield fail("gpu", message, remedy, cluster.line("SLURM", "gpu_gres"))
    elif requested:
        where = partition or "the default partition"
        yield ok("gpu", f"{requested} in {where} ({offered or 'sinfo lists no GPUs'})")


def gpus_by_partition(rows: Sequence[Sequence[str]]) -> dict[str, set[str]]:
    """The kinds of GPUs of each partition that has any, such as ``gpu:a100:4``.

    ``rows`` are those of ``sinfo -N -o '%N|%P|%t|%G'``.
    """
    found: dict[str, set[str]] = {}
    for _, partition, _, gres, *_ in rows:
        if kinds := {part.partition("(")[0] for part in gres.split(",") if part.startswith("gpu")}:
            found.setdefault(partition.rstrip("*"), set()).update(kinds)
    return found


def requests_gpus(options: Mapping[str, str]) -> bool:
    """Whether one of these sbatch options requests GPUs."""
    return any(name.replace("_", "-").startswith(("gpus", "gres")) for name in options)


def _accounts(cluster: ClusterSettings, answer: Answer, config: Mapping[str, str]) -> Iterator[Finding]:
    known = {row[0] for row in answer.rows("accounts", 1) if row[0]}
    enforced = "associations" in config.get("AccountingStorageEnforce", "")
    accounts = cluster.accounts
    given = {
        cluster.line("ACCOUNTS", f"{kind}.{name}"): account
        for kind, entries in (("user", accounts.user), ("group", accounts.group))
        for name, account in entries.items()
    }
    if account := cluster.slurm.sbatch.get("account"):
        given[cluster.line("SLURM", "sbatch_account")] = account
    unknown = {line: account for line, account in given.items() if known and account not in known}
    for line, account in unknown.items():
        message = f"the cluster user has no account {account!r} in SLURM; it has {', '.join(sorted(known))}"
        yield (fail if enforced else warn)("account", message, "set one of these, or contact the site", line)
    if accounts.required and not given:
        message = "required = true, but the ini assigns no account to a user or group"
        yield fail("account", message, "add group.<name> = <account>", cluster.line("ACCOUNTS", "required"))
    elif not unknown:
        listed = ", ".join(sorted(known)) or "sacctmgr lists none"
        yield ok("account", f"{listed}{f'; {len(given)} in the ini' if given else ''}")


def _test(settings: Settings, cluster: ClusterSettings, test: Test, answer: Answer, number: int) -> Finding:
    """Whether sbatch would accept a job with these options. It checks all but the current limits on numbers of jobs."""
    output = answer[f"test {number}"]
    subject = f"sbatch for {', '.join(test.workflows)}"
    if output.code == 0:
        return ok(subject, output.last.removeprefix("sbatch: ") or "would accept the jobs")
    fault = classify_submission(Completed((), output.code, "", output.text.replace("allocation failure: ", "")))
    hint = fault.hint.replace("<workflow>", test.workflows[0])
    return fail(subject, str(fault), hint, _lines_of_options(settings, cluster, test, fault.hint + output.text))


def _lines_of_options(settings: Settings, cluster: ClusterSettings, test: Test, text: str) -> str:
    """The lines of the ini that set the options named in ``text``; empty if there are none.

    If several lines set an option, the one that takes precedence.
    """
    lines: list[str] = []
    for option in test.options:
        if not re.search(rf"(?:_job_|sbatch_|--){option}\b", text):
            continue
        flag = option.replace("-", "_")
        places: list[tuple[Located, str, str]] = [
            *(
                (settings, "WORKFLOWS", f"{name}_job_{spelling}")
                for name in test.workflows
                for spelling in (option, flag)
            ),
            *(((cluster, "SLURM", f"gpu_{option}"),) if test.gpu else ()),
            *(((cluster, "SLURM", "slurm_default_partition"),) if option == "partition" else ()),
            *((cluster, "SLURM", f"sbatch_{spelling}") for spelling in (option, flag)),
        ]
        present = (part.line(section, key) for part, section, key in places if part.is_set(section, key))
        lines += islice(present, 1)
    return "; ".join(lines)
