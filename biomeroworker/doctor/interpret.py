"""What the front-end's answers mean for this configuration. Pure.

Every finding that is not ok names the line of the ini that changes it, where one does.
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
from biomeroworker.doctor.front_end import FOR_PULLS, PROGRAMS, Answer
from biomeroworker.domain.findings import Finding, fail, fault_of, ok, warn

#: The folders that are asked about, by the key that names them.
FOLDERS = ("slurm_data_path", "slurm_images_path", "slurm_converters_path")
#: Seconds that clocks may be apart. Jobs are asked for with an hour's slack (`cluster.slurm`).
_SKEW_WARN_SECONDS, _SKEW_FAIL_SECONDS = 30.0, 1800.0
_FEW_INODES = 100_000
#: File systems that only one machine sees.
_LOCAL = ("tmpfs", "ramfs", "overlayfs")


@dataclass(frozen=True)
class Test:
    """Options that some workflow's jobs have, and who they are."""

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
    """The findings.

    Parameters
    ----------
    cluster
        The settings of the cluster that is examined.
    seen
        This machine's clock before and after the question, in seconds since 1970.
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
    missing = [name for name in PROGRAMS if not answer.word(f"program {name}")]
    if missing:
        told = f"not on the PATH of commands over SSH: {', '.join(missing)}"
        yield fail("slurm", told, "a login node with SLURM, or PATH in ~/.bashrc (not ~/.bash_profile) there", host)
        return
    config = answer.values("config")
    if answer["config"].code:
        yield fail("slurm", f"slurmctld does not answer: {answer['config'].last}", "ask the site", host)
        return
    yield ok("slurm", f"{config.get('SLURM_VERSION', '')} {config.get('ClusterName', '')}".strip())
    yield from _accounting(answer, config)
    yield from _partitions(settings, cluster, answer)
    yield from _gpus(settings, cluster, answer)
    yield from _accounts(cluster, answer, config)
    for number, test in enumerate(tests):
        yield _test(settings, cluster, test, answer, number)


def _clock(answer: Answer, seen: tuple[float, float]) -> Iterator[Finding]:
    word = answer.word("clock")
    if not word.isdigit():
        return
    there, (before, after) = float(word), seen
    skew = max(0.0, before - 1 - there, there - after - 1)  # their clock is cut to the second
    told = f"{skew:.0f} s apart" if skew else "the same on both sides"
    remedy = "synchronise the clocks (chrony, ntpd)"
    if skew > _SKEW_FAIL_SECONDS:
        yield fail("clock", told, remedy)
    elif skew > _SKEW_WARN_SECONDS:
        yield warn("clock", told, remedy)
    else:
        yield ok("clock", told)


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
            "unset them for commands over SSH, and say it in the ini instead (sbatch_<flag>, apptainer_tmpdir, …)",
        )
    else:
        yield ok("environment", "nothing has to be forwarded, and nothing of the account's own changes jobs")


def _folder(cluster: ClusterSettings, key: str, lines: Sequence[str]) -> Iterator[Finding]:
    path, line = str(getattr(cluster.slurm, key)), cluster.line("SLURM", key)
    facts = dict(text.partition(" ")[::2] for text in lines)
    if "nearest" not in facts:
        yield fail(key, f"{path} cannot be looked at", "a path on the cluster", line)
        return
    if "there" not in facts:
        if "can-be-made" in facts:
            yield fail(key, f"{path} is not there", "biomeroworker init makes it", line)
        else:
            yield fail(
                key, f"{path} is not there, and {facts['nearest']} is not ours to make it in", "another path", line
            )
        return
    if "folder" not in facts or "writable" not in facts:
        what = "is no folder" if "folder" not in facts else "cannot be written to by the account"
        yield fail(key, f"{path} {what}", "another path, or access to it", line)
        return
    kind = facts.get("type", "")
    free = int(facts["free"]) / 1e6 * 1.024 if facts.get("free", "").isdigit() else None
    told = f"{path}" + (f", {free:.0f} GB free" if free is not None else "") + (f" ({kind})" if kind else "")
    if kind in _LOCAL:
        yield warn(key, f"{told}: other nodes do not see this file system", "a path on shared storage", line)
        return
    if key == "slurm_data_path" and free is not None and free < cluster.slurm.free_space_gb:
        guard = cluster.line("SLURM", "free_space_gb")
        yield fail(
            key, f"{told}; {cluster.slurm.free_space_gb:g} GB must stay free", "free space, or ask for less", guard
        )
    elif facts.get("inodes", "").isdigit() and 0 < int(facts["inodes"]) < _FEW_INODES:
        yield warn(key, f"{told}; only {facts['inodes']} more files fit", "remove files, or another path", line)
    else:
        yield ok(key, told)


def _quota(cluster: ClusterSettings, answer: Answer) -> Iterator[Finding]:
    """``quota -w -p``: file system, blocks, soft limit, hard limit, grace, files, soft, hard, grace; a star is over."""
    for line in answer["quota"].lines:
        words = line.split()
        if len(words) < 4 or not re.fullmatch(r"\d+\*?", words[1]):
            continue
        used, limits = int(words[1].rstrip("*")), [int(word) for word in words[2:4] if word.isdigit() and int(word)]
        if not limits:
            continue
        told = f"{used / 1e6:.1f} of {min(limits) / 1e6:.1f} GB on {words[0]}"
        setting = cluster.line("SLURM", "slurm_data_path")
        if words[1].endswith("*") or used >= min(limits):
            yield fail("quota", f"{told}: full", "remove files, or a path on other storage", setting)
        elif used > 0.9 * min(limits):
            yield warn("quota", f"{told}: nearly full", "remove files, or a path on other storage", setting)
        else:
            yield ok("quota", told)


def _runtime(cluster: ClusterSettings, answer: Answer, program: str) -> Finding:
    line = cluster.line("SLURM", "container_runtime")
    missing = [name for name in FOR_PULLS.get(program, ()) if not answer.word(f"program {name}")]
    if not answer.word(f"program {program}"):
        told = f"{program} is not on the PATH of the login node"
    elif answer["runtime"].code:
        told = f"{program} does not work: {answer['runtime'].last}"
    elif missing:
        told = f"{', '.join(missing)} not on the PATH of the login node: images cannot be pulled there"
    else:
        return ok("container runtime", answer["runtime"].last or program)
    if cluster.slurm.slurm_image_pull_via_sbatch:
        return warn("container runtime", f"{told}; images are pulled by jobs, see --probe-nodes", "", line)
    return fail("container runtime", told, "apptainer, singularity or charliecloud, whichever is there", line)


def _accounting(answer: Answer, config: Mapping[str, str]) -> Iterator[Finding]:
    kind = config.get("AccountingStorageType", "")
    if answer["accounting"].code:
        told = f"sacct does not answer ({answer['accounting'].last})"
        if kind.endswith("/none"):
            told = "this cluster keeps no accounts of its jobs (AccountingStorageType none)"
        age = config.get("MinJobAge", "300 sec")
        yield warn(
            "sacct",
            f"{told}: how a job ended is known from the queue only, for {age} after its end",
            "poll_seconds well below that",
        )
        return
    queue = {row[0] for row in answer.rows("queue", 2) if state_of(row[1]).is_terminal}
    known = {row[0]: row[1] for row in answer.rows("accounting", 2)}
    behind = sorted(job for job in queue if not state_of(known.get(job, "")).is_terminal)
    window = answer.word("purge") or "not said"
    told = f"keeps jobs for {'ever' if window == 'NONE' else window}"
    if behind:
        yield warn(
            "sacct", f"{told}; does not know yet how {len(behind)} of {len(queue)} ended jobs did", "it lags; wait"
        )
    else:
        yield ok(
            "sacct",
            f"{told}; " + (f"knows all {len(queue)} jobs that ended lately" if queue else "no job ended lately"),
        )


def _partitions(settings: Settings, cluster: ClusterSettings, answer: Answer) -> Iterator[Finding]:
    there = {record["PartitionName"]: record for record in answer.records("partitions") if "PartitionName" in record}
    nodes: dict[str, list[str]] = {}
    for _, partition, state, *_ in answer.rows("nodes", 3):
        nodes.setdefault(partition.rstrip("*"), []).append(state)
    named = named_partitions(settings, cluster)
    if not named:
        default = [name for name, record in there.items() if record.get("Default") == "YES"]
        if not default:
            line = cluster.line("SLURM", "slurm_default_partition")
            yield fail("partition", f"the cluster has no default; there are {', '.join(there)}", "name one", line)
            return
        named = {default[0]: cluster.line("SLURM", "slurm_default_partition")}
    for name, line in named.items():
        if name not in there:
            yield fail(
                f"partition {name}", f"there is none; there are {', '.join(sorted(there))}", "one of these", line
            )
            continue
        states = nodes.get(name, [])
        usable = [state for state in states if not node_is_out(state)]
        told = f"{len(usable)} of {len(states)} nodes take jobs, at most {there[name].get('MaxTime', '?')}"
        if there[name].get("State", "UP") != "UP":
            yield fail(f"partition {name}", f"is {there[name]['State']}", "another partition, or ask the site", line)
        elif not usable:
            yield fail(f"partition {name}", told, "another partition, or ask the site", line)
        else:
            yield (ok if len(usable) == len(states) else warn)(f"partition {name}", told)


def named_partitions(settings: Settings, cluster: ClusterSettings) -> dict[str, str]:
    """The partitions that the configuration names, each with a line that names it."""
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
    asks = slurm.gpu_gres or slurm.gpu_gpus
    if not using and not asks:
        return
    by_partition: dict[str, set[str]] = {}
    for _, partition, _, gres, *_ in answer.rows("nodes", 4):
        if kinds := {part.partition("(")[0] for part in gres.split(",") if part.startswith("gpu")}:
            by_partition.setdefault(partition.rstrip("*"), set()).update(kinds)
    line = cluster.line("SLURM", "gpu_partition")
    where = slurm.gpu_partition or slurm.slurm_default_partition
    offered = "; ".join(f"{name}: {', '.join(sorted(kinds))}" for name, kinds in sorted(by_partition.items()))
    if where and where not in by_partition:
        yield fail(
            "gpu", f"partition {where} has no GPUs ({offered or 'nor has any other'})", "a partition that has", line
        )
    elif using and not asks:
        key = cluster.line("SLURM", "gpu_gres")
        named = [name for name in using if not _names_gpus(settings.workflows[name].job_params)]
        if named:
            yield fail(
                "gpu",
                f"{', '.join(named)} would get none: nothing asks for one",
                "gpu:1 ([SLURM] gpu_gpus = 1 at some sites)",
                key,
            )
    elif asks:
        yield ok("gpu", f"{asks} in {where or 'the default partition'} ({offered or 'not told which there are'})")


def _names_gpus(options: Mapping[str, str]) -> bool:
    return any(name.replace("_", "-").startswith(("gpus", "gres")) for name in options)


def _accounts(cluster: ClusterSettings, answer: Answer, config: Mapping[str, str]) -> Iterator[Finding]:
    there = {row[0] for row in answer.rows("accounts", 1) if row[0]}
    enforced = "associations" in config.get("AccountingStorageEnforce", "")
    accounts = cluster.accounts
    entries = [("user", accounts.user), ("group", accounts.group)]
    given = {
        cluster.line("ACCOUNTS", f"{kind}.{who}"): account
        for kind, who_of in entries
        for who, account in who_of.items()
    }
    if account := cluster.slurm.sbatch.get("account"):
        given[cluster.line("SLURM", "sbatch_account")] = account
    unknown = {line: account for line, account in given.items() if there and account not in there}
    for line, account in unknown.items():
        told = f"our user has no account {account!r} in SLURM; it has {', '.join(sorted(there))}"
        yield (fail if enforced else warn)("account", told, "one of these, or ask the site", line)
    if accounts.required and not given:
        yield fail(
            "account",
            "the site demands an account and none is given to anybody",
            "group.<name> = <account>",
            cluster.line("ACCOUNTS", "required"),
        )
    elif not unknown:
        yield ok(
            "account", f"{', '.join(sorted(there)) or 'not told'}" + (f"; {len(given)} in the ini" if given else "")
        )


def _test(settings: Settings, cluster: ClusterSettings, test: Test, answer: Answer, number: int) -> Finding:
    """Whether sbatch would take such a job. It looks at everything but the present limits on the number of jobs."""
    said = answer[f"test {number}"]
    subject = f"sbatch for {', '.join(test.workflows)}"
    if said.code == 0:
        return ok(subject, said.last.removeprefix("sbatch: ") or "would be taken")
    fault = classify_submission(Completed((), said.code, "", said.text.replace("allocation failure: ", "")))
    hint = fault.hint.replace("<workflow>", test.workflows[0])
    return fail(subject, str(fault), hint, _culprit(settings, cluster, test, fault.hint + said.text))


def _culprit(settings: Settings, cluster: ClusterSettings, test: Test, words: str) -> str:
    """The lines of the ini that set the options that a refusal is about, for each the strongest; empty if none does."""
    lines: list[str] = []
    for option in test.options:
        if not re.search(rf"(?:_job_|sbatch_|--){option}\b", words):
            continue
        flag = option.replace("-", "_")
        places: list[tuple[Located, str, str]] = [
            *((settings, "WORKFLOWS", f"{name}_job_{word}") for name in test.workflows for word in (option, flag)),
            *(((cluster, "SLURM", f"gpu_{option}"),) if test.gpu else ()),
            *(((cluster, "SLURM", "slurm_default_partition"),) if option == "partition" else ()),
            *((cluster, "SLURM", f"sbatch_{word}") for word in (option, flag)),
        ]
        there = (part.line(section, key) for part, section, key in places if part.is_set(section, key))
        lines += islice(there, 1)
    return "; ".join(lines)
