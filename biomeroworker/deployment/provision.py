"""Prepare the clusters of a deployment: folders, workflow images, converters. What exists is not changed.

A failure (an invalid descriptor, an image that cannot be pulled, a cluster that cannot be reached) is reported and does
not stop the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.pull import PullJobs, PullRequest, PullResult, pull_all
from biomeroworker.config import Settings, SlurmSettings
from biomeroworker.deployment.job_scripts import leave_job_scripts
from biomeroworker.engine.planning import job_options
from biomeroworker.errors import Fault, Permanent, classify
from biomeroworker.workflows.catalogue import Catalogue

#: File in the images folder with the result of each pull. It has this name because older scripts fetch it.
PULL_LOG = "sing.log"


@dataclass
class Prepared:
    """The result."""

    outcomes: list[PullResult] = field(default_factory=list)
    #: Workflows that are disabled because their descriptors are invalid.
    disabled: dict[str, Fault] = field(default_factory=dict)
    #: Clusters that could not be prepared.
    problems: dict[str, Fault] = field(default_factory=dict)

    @property
    def missing(self) -> dict[str, Fault]:
        """Images that were not pulled and clusters that could not be prepared."""
        pulls = {outcome.request.name: outcome.fault for outcome in self.outcomes if outcome.fault}
        return {**self.problems, **pulls}

    @property
    def faults(self) -> dict[str, Fault]:
        """All failures by workflow, image or cluster."""
        return {**self.disabled, **self.missing}

    def raise_for_failures(self) -> None:
        """Raise `Permanent` if anything is missing. Disabled workflows do not count."""
        if self.missing:
            detail = "\n".join(f"{name}: {fault}" for name, fault in self.missing.items())
            raise Permanent(f"missing on the cluster: {', '.join(self.missing)}", detail=detail)


def set_up(
    settings: Settings, clusters: Mapping[str, Cluster], catalogue: Catalogue, report: Callable[[str], None]
) -> Prepared:
    """Prepare every cluster that a workflow runs on."""
    prepared = Prepared()
    wanted: dict[str, list[PullRequest]] = {}
    for name, workflow in catalogue.usable():
        configured = settings.workflows[name]
        wanted.setdefault(configured.cluster, []).append(PullRequest(name, workflow.container_image, configured.path))
    prepared.disabled.update({name: Permanent(problem) for name, problem in catalogue.problems.items()})
    for cluster in wanted or settings.clusters_in_use[:1]:
        converters = [PullRequest(key, image) for key, image in settings.converters.items()]
        try:
            slurm = settings.clusters[cluster].slurm
            prepared.outcomes += _prepare(clusters[cluster], slurm, [*wanted.get(cluster, []), *converters], report)
            leave_job_scripts(settings, cluster, clusters[cluster])
        except Exception as error:
            prepared.problems[f"cluster {cluster or settings.clusters[cluster].ssh.host}"] = classify(error)
    return prepared


def _prepare(
    cluster: Cluster, slurm: SlurmSettings, wanted: list[PullRequest], report: Callable[[str], None]
) -> list[PullResult]:
    make_folders(cluster)
    run = None
    if slurm.slurm_image_pull_via_sbatch:
        run = PullJobs(cluster.transport, f"{cluster.remote_paths.images}/.pulls", pull_options(slurm))
    results = pull_all(cluster.images, wanted, report, max_parallel=slurm.image_pull_at_once, run=run)
    lines = sorted(f"{one.request.name}: {one.image.path if one.image else one.fault}\n" for one in results)
    cluster.transport.write_file(f"{cluster.remote_paths.images}/{PULL_LOG}", "".join(lines).encode(), mode=0o644)
    return results


def make_folders(cluster: Cluster) -> None:
    """Create the folders of a cluster, with ``~`` and ``$HOME`` of the configuration expanded."""
    at = cluster.remote_paths
    cluster.transport.make_dirs([at.data, at.images, at.converters])


def pull_options(slurm: SlurmSettings) -> dict[str, str]:
    """The options of ``sbatch`` for a job that pulls an image."""
    own = {"cpus-per-task": slurm.image_pull_cpus, "mem": slurm.image_pull_mem}
    return job_options.auxiliary_options(slurm, stronger=own)
