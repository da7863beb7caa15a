"""Examine a deployment: each finding says what is wrong and which line to change. Nothing is changed here.

A cluster is asked everything in one remote execution (`front_end`), its nodes in a second one if that is wished
(`probe`); what the answers mean is decided without asking again (`interpret`).
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

#: How long the jobs on the nodes are waited for.
PROBE_SECONDS = 120
#: For the one question to the front-end, in which each part has a limit of its own.
_ASK_SECONDS = 180.0


def examine(
    settings: Settings,
    clusters: Clusters,
    catalogue: Catalogue,
    *,
    probe_nodes: bool = False,
    deadline: int = PROBE_SECONDS,
) -> Iterator[Finding]:
    """The findings, as they are made; what depends on a broken part is left out."""
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
    reached = None
    host = configured.line("SSH", "host")
    try:
        reached = clusters[configured.name]
        begun = time.monotonic()
        reached.check()
        yield ok("ssh", f"connected to {configured.ssh.host} in {(time.monotonic() - begun) * 1000:.0f} ms")
    except Exception as error:
        reached = None
        yield fault_of("ssh", error, f"try it by hand: ssh {configured.ssh.host}", host)
    if reached is not None:
        yield from _front_end(settings, configured, reached, own, probe_nodes=probe_nodes, deadline=deadline)
    yield from _workflows(settings, configured, reached, catalogue, own)


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
        asked = front_end.command(folders, cluster.runtime.program, [test.options for test in tests])
        answer = front_end.parse(cluster.transport.run(asked, timeout=_ASK_SECONDS).stdout)
    except Exception as error:
        yield fault_of("cluster", error)
        return
    yield from interpret.examine(settings, configured, answer, tests, (before, time.time()), cluster.runtime.program)
    if probe_nodes:
        yield from _nodes(settings, configured, cluster, answer, tests, deadline)


def _tests(settings: Settings, configured: ClusterSettings, own: list[str]) -> Iterator[interpret.Test | Finding]:
    """The different sets of options that jobs have, with the workflows that have them; or why one cannot be asked."""
    sets: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name in own:
        wrong = list(job_options.problems(settings, name))
        for line, option, told in wrong:
            yield fail(f"options of {name}", f"sbatch's {option!r} {told}", "change or remove it", line)
        unknown = {
            option: settings.line("WORKFLOWS", f"{name}_job_{flag}")
            for flag in settings.workflows[name].job_params
            if (option := sbatch_options.normalize(flag)) not in sbatch_options.KNOWN
            and option not in {name for _, name, _ in wrong}
        }
        for option, line in unknown.items():
            yield warn(f"options of {name}", f"sbatch's {option!r} is not known here; it is passed on", "", line)
        if not wrong:
            named = _an_account(configured)
            account = {"account": named} if named else dict[str, str]()
            asked = RunRequest(workflow=name, source="folder", inputs={}, job_options=account)
            options = job_options.options(settings, asked)
            sets.setdefault(tuple(sorted(options.items())), []).append(name)
    for given, names in sets.items():
        yield interpret.Test(tuple(names), dict(given), any(settings.workflows[name].use_gpu for name in names))


def _an_account(configured: ClusterSettings) -> str:
    """One that jobs can be tried with; a site that demands accounts and names none is told so elsewhere."""
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
        yield warn("nodes", "not probed: the data folder is not there", "", configured.line("SLURM", "slurm_data_path"))
        return
    partitions = list(interpret.named_partitions(settings, configured))
    found = probe.nodes(answer.rows("nodes", 5), partitions)
    if not found:
        yield warn("nodes", "sinfo names none to probe")
        return
    options = {}
    for node in found:
        fitting = [test.options for test in tests if test.options.get("partition", node.partition) == node.partition]
        wanted = ("account", "qos", "reservation", "gres", "gpus")
        given = fitting[0] if fitting else configured.slurm.sbatch
        options[node.partition] = {name: value for name, value in given.items() if name in wanted}
    asked = [node for node in found if not node.is_out]
    text = ""
    if asked:
        command = probe.command(
            configured, asked, options, token=secrets.token_hex(8), deadline=deadline, runtime=cluster.runtime.program
        )
        try:
            done = cluster.transport.run(command, timeout=deadline + 60.0)
        except Exception as error:
            yield fault_of("nodes", error)
            return
        text = done.stdout
        if not done.ok and not text:
            yield fail(
                "nodes",
                f"no jobs could be submitted: {done.stderr.strip()}",
                "",
                configured.line("SLURM", "slurm_data_path"),
            )
            return
    yield from probe.examine(configured, found, text, deadline=deadline, runtime=cluster.runtime.program)


def _workflows(
    settings: Settings, configured: ClusterSettings, cluster: Cluster | None, catalogue: Catalogue, own: list[str]
) -> Iterator[Finding]:
    """Each workflow's descriptor and its image; all images in one remote execution."""
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
    """Whether the file with logins for registries can be read, and for how many images it has one. Nobody is asked."""
    file = configured.slurm.registry_credentials
    if file is None:
        return
    line = configured.line("SLURM", "registry_credentials")
    try:
        registry_auth.login_for(Reference("", "any"), file)
        found = [image for image in images if registry_auth.login_for(Reference.parse(image), file)]
    except ConfigError as error:
        yield fail("registry credentials", str(error), "a file as `podman login --authfile` writes it", line)
    else:
        yield ok("registry credentials", f"{file} has a login for {len(found)} of {len(images)} images")


def _described(catalogue: Catalogue, name: str) -> str:
    return catalogue.get(name).container_image


def _image(settings: Settings, name: str, wanted: Reference, there: list[str]) -> Finding:
    """Whether the version that the descriptor asks for is among those on the cluster; without a tag any will do."""
    asked = wanted.version if wanted.tag or wanted.digest else ""
    listed = ", ".join(there) or "none"
    if asked in there or (there and not asked):
        return ok(f"image of {name}", f"{asked or there[0]} is on the cluster (there: {listed})")
    told = f"the image {wanted} is not on the cluster (there: {listed})"
    return fail(f"image of {name}", told, "biomeroworker init", settings.line("WORKFLOWS", name))
