"""Examine a deployment. Each finding names the problem and the line of the ini to change. Nothing is changed.

All queries to a cluster's front-end run in one remote command (`front_end`), which `interpret` turns into findings.
On request a second one probes the nodes (`probe`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from functools import partial

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers import registry_auth
from biomeroworker.cluster.containers.runtime import Reference
from biomeroworker.cluster.registry import Clusters
from biomeroworker.cluster.slurm import sbatch_options
from biomeroworker.config import ClusterSettings, Settings
from biomeroworker.doctor import front_end, interpret, local_checks, probe, ssh_checks
from biomeroworker.domain.cluster_paths import strip_home
from biomeroworker.domain.findings import Finding, check, fail, fault_of, ok, warn
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning import job_options
from biomeroworker.errors import ConfigError
from biomeroworker.workflows.catalogue import Catalogue

__all__ = ["PROBE_SECONDS", "Finding", "examine"]

#: Default time to wait for the jobs on the nodes.
PROBE_SECONDS = 120
#: Added to that time for submitting the jobs and cleaning up.
_PROBE_MARGIN_SECONDS = 60.0
#: Time limit of the command on the front-end, in which each section has its own limit.
_FRONT_END_SECONDS = 180.0


def examine(
    settings: Settings,
    clusters: Clusters,
    catalogue: Catalogue,
    *,
    probe_nodes: bool = False,
    deadline: int = PROBE_SECONDS,
) -> Iterator[Finding]:
    """Yield the findings as soon as they are known. Checks that need a part that failed are left out.

    Parameters
    ----------
    probe_nodes
        Also start a small job on each node of the partitions in use.
    deadline
        Seconds to wait for these jobs.
    """
    for warning in settings.warnings:
        yield warn("configuration", warning)
    yield from local_checks.database(settings)
    yield local_checks.work_folder(settings)
    yield from local_checks.omero()
    for name in settings.clusters_in_use:
        configured = settings.clusters[name]
        for finding in _cluster(settings, configured, clusters, catalogue, probe_nodes=probe_nodes, deadline=deadline):
            yield finding.for_cluster(name)


def _cluster(
    settings: Settings,
    configured: ClusterSettings,
    clusters: Clusters,
    catalogue: Catalogue,
    *,
    probe_nodes: bool,
    deadline: int,
) -> Iterator[Finding]:
    yield from ssh_checks.examine(configured)
    own = [name for name, one in settings.workflows.items() if one.cluster == configured.name]
    cluster = None
    host = configured.line("SSH", "host")
    try:
        cluster = clusters[configured.name]
        started = time.monotonic()
        cluster.check()
        yield ok("ssh", f"connected to {configured.ssh.host} in {(time.monotonic() - started) * 1000:.0f} ms")
    except Exception as error:
        cluster = None
        yield fault_of("ssh", error, f"try it in a shell: ssh {configured.ssh.host}", host)
    if cluster is not None:
        yield from _front_end(settings, configured, cluster, own, probe_nodes=probe_nodes, deadline=deadline)
    yield from _workflows(settings, configured, cluster, catalogue, own)


def _front_end(
    settings: Settings,
    configured: ClusterSettings,
    cluster: Cluster,
    own: list[str],
    *,
    probe_nodes: bool,
    deadline: int,
) -> Iterator[Finding]:
    tests = []
    for test in _tests(settings, configured, own):
        if isinstance(test, Finding):
            yield test
        else:
            tests.append(test)
    folders = [strip_home(str(getattr(configured.slurm, key))) for key in interpret.FOLDERS]
    before = time.time()
    try:
        command = front_end.command(folders, cluster.runtime.program, [test.options for test in tests])
        answer = front_end.parse(cluster.transport.run(command, timeout=_FRONT_END_SECONDS).stdout)
    except Exception as error:
        yield fault_of("cluster", error)
        return
    yield from interpret.examine(settings, configured, answer, tests, (before, time.time()), cluster.runtime.program)
    if probe_nodes:
        yield from _nodes(settings, configured, cluster, answer, tests, deadline)


def _tests(settings: Settings, configured: ClusterSettings, own: list[str]) -> Iterator[interpret.Test | Finding]:
    """The different sets of job options, each with the workflows that use it; findings about options that are wrong."""
    sets: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name in own:
        wrong = list(job_options.problems(settings, name))
        for line, option, problem in wrong:
            yield fail(f"options of {name}", f"sbatch's {option!r} {problem}", "change or remove it", line)
        unknown = {
            option: settings.line("WORKFLOWS", f"{name}_job_{flag}")
            for flag in settings.workflows[name].job_params
            if (option := sbatch_options.normalize(flag)) not in sbatch_options.KNOWN
            and option not in {name for _, name, _ in wrong}
        }
        for option, line in unknown.items():
            message = (
                f"sbatch's {option!r} is unknown to this version of biomeroworker; it is passed to sbatch unchanged"
            )
            yield warn(f"options of {name}", message, "", line)
        if not wrong:
            account = _account_for_tests(configured)
            given = {"account": account} if account else dict[str, str]()
            request = RunRequest(workflow=name, source="folder", inputs={}, job_options=given)
            options = job_options.options(settings, request)
            sets.setdefault(tuple(sorted(options.items())), []).append(name)
    for items, names in sets.items():
        yield interpret.Test(tuple(names), dict(items), any(settings.workflows[name].use_gpu for name in names))


def _account_for_tests(configured: ClusterSettings) -> str:
    """An account to test options with. That a required account is missing is a finding of its own."""
    accounts = configured.accounts
    found = [*accounts.group.values(), *accounts.user.values()]
    return found[0] if found else configured.slurm.sbatch.get("account", "none" if accounts.required else "")


def _nodes(
    settings: Settings,
    configured: ClusterSettings,
    cluster: Cluster,
    answer: front_end.Answer,
    tests: list[interpret.Test],
    deadline: int,
) -> Iterator[Finding]:
    if "writable" not in answer["folder 0"].lines:
        line = configured.line("SLURM", "slurm_data_path")
        yield warn("nodes", "not probed: the data folder does not exist or is not writable", "", line)
        return
    partitions = list(interpret.named_partitions(settings, configured))
    found = probe.nodes(answer.rows("nodes", 5), partitions)
    if not found:
        yield warn("nodes", "not probed: sinfo lists no nodes in the partitions of this configuration")
        return
    usable = [node for node in found if not node.is_out]
    output = ""
    if usable:
        command = probe.command(
            configured,
            usable,
            {node.partition: _probe_options(configured, node.partition, tests) for node in found},
            token=secrets.token_hex(8),
            deadline=deadline,
            runtime=cluster.runtime.program,
        )
        try:
            done = cluster.transport.run(command, timeout=deadline + _PROBE_MARGIN_SECONDS)
        except Exception as error:
            yield fault_of("nodes", error)
            return
        output = done.stdout
        if not done.ok and not output:
            line = configured.line("SLURM", "slurm_data_path")
            yield fail("nodes", f"no probe could be submitted: {done.stderr.strip()}", "", line)
            return
    yield from probe.examine(configured, found, output, deadline=deadline, runtime=cluster.runtime.program)


def _probe_options(configured: ClusterSettings, partition: str, tests: list[interpret.Test]) -> dict[str, str]:
    """The options of a probe's job: those of a workflow's job in this partition that the site may require."""
    fitting = (test.options for test in tests if test.options.get("partition", partition) == partition)
    given = next(fitting, configured.slurm.sbatch)
    return {name: value for name, value in given.items() if name in ("account", "qos", "reservation", "gres", "gpus")}


def _workflows(
    settings: Settings, configured: ClusterSettings, cluster: Cluster | None, catalogue: Catalogue, own: list[str]
) -> Iterator[Finding]:
    """Check each workflow's descriptor and image; one remote command lists all images."""
    described: dict[str, str] = {}
    for name in own:
        line = settings.line("WORKFLOWS", f"{name}_repo")
        finding = check(f"workflow {name}", partial(_described, catalogue, name), "", line)
        yield finding
        if finding.level == "ok":
            described[name] = finding.message
    yield from _credentials(configured, [*described.values(), *settings.converters.values()])
    if cluster is None:
        return
    try:
        found = cluster.versions([settings.workflows[name].path for name in described])
    except Exception as error:
        yield fault_of("images", error)
        return
    for name, image in described.items():
        yield _image(settings, name, Reference.parse(image), found[settings.workflows[name].path])
    if any(catalogue.get(name).format == "tiff" for name in described):
        line = settings.line("CONVERTERS", "zarr_to_tiff")
        yield check("converter", lambda: cluster.converter().path, "biomeroworker init", line)


def _credentials(configured: ClusterSettings, images: list[str]) -> Iterator[Finding]:
    """Whether the file with registry logins can be read, and for how many images it has one; contacts no registry."""
    file = configured.slurm.registry_credentials
    if file is None:
        return
    line = configured.line("SLURM", "registry_credentials")
    try:
        registry_auth.login_for(Reference("", "any"), file)
        found = [image for image in images if registry_auth.login_for(Reference.parse(image), file)]
    except ConfigError as error:
        yield fail("registry credentials", str(error), "create the file with: podman login --authfile", line)
    else:
        yield ok("registry credentials", f"{file} has a login for {len(found)} of {len(images)} images")


def _described(catalogue: Catalogue, name: str) -> str:
    return catalogue.get(name).container_image


def _image(settings: Settings, name: str, image: Reference, versions: list[str]) -> Finding:
    """Whether the cluster has the image version of the descriptor; without a tag or digest, any version."""
    wanted = image.version if image.tag or image.digest else ""
    listed = f"versions there: {', '.join(versions) or 'none'}"
    if wanted in versions or (versions and not wanted):
        return ok(f"image of {name}", f"{wanted or versions[0]} is on the cluster ({listed})")
    message = f"the image {image} is not on the cluster ({listed})"
    return fail(f"image of {name}", message, "pull it: biomeroworker init", settings.line("WORKFLOWS", name))
