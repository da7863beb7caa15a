"""Examine a deployment: each finding says what is wrong and what to change. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from biomeroworker.cluster.site import Cluster
from biomeroworker.config import Settings
from biomeroworker.engine.catalogue import Catalogue
from biomeroworker.errors import Fault, Permanent, classify
from biomeroworker.log.runlog import RunLog


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    message: str
    remedy: str = ""


def examine(settings: Settings, log: RunLog, cluster: Cluster, catalogue: Catalogue) -> Iterator[Finding]:
    """The findings, as they are made; what depends on a broken part is left out."""
    for warning in settings.warnings:
        yield Finding("warn", "configuration", warning)
    yield _tried("database", lambda: f"{settings.database_shown}, {len(log.unfinished())} unfinished runs")
    reached = _tried("ssh", partial(_reach, cluster), remedy=f"try it by hand: ssh {settings.ssh.host}")
    yield reached
    if reached.level == "ok":
        yield _tried(
            "slurm", partial(_slurm, cluster), remedy="[SSH] host must be a machine with SLURM's commands on PATH"
        )
        yield _tried("container runtime", partial(_runtime, cluster), remedy="[SLURM] container_runtime")
        for key in ("slurm_data_path", "slurm_images_path"):
            remedy = f"[SLURM] {key}; biomeroworker init makes it"
            yield _tried(key, partial(_folder, cluster, str(getattr(settings.slurm, key))), remedy=remedy)
    for name in catalogue.names():
        described = _tried(f"workflow {name}", partial(_described, catalogue, name))
        yield described
        if described.level == "ok" and reached.level == "ok":
            look = partial(_image, cluster, settings.workflows[name].path, described.message)
            yield _tried(f"image of {name}", look, remedy="biomeroworker init")


def _tried(subject: str, look: Callable[[], str], remedy: str = "") -> Finding:
    try:
        return Finding("ok", subject, look())
    except Exception as error:
        fault: Fault = classify(error)
        return Finding("fail", subject, str(fault), fault.hint or remedy)


def _described(catalogue: Catalogue, name: str) -> str:
    return catalogue.get(name).container_image


def _image(cluster: Cluster, path: str, image: str) -> str:
    return cluster.image(path, image, "").path


def _reach(cluster: Cluster) -> str:
    cluster.check()
    return "connected"


def _slurm(cluster: Cluster) -> str:
    answer = cluster.transport.run(["sinfo", "--noheader", "--format=%P %a %D"], timeout=30)
    if not answer.ok:
        raise Permanent(answer.stderr.strip() or f"sinfo ended with {answer.returncode}")
    return "partitions " + ", ".join(line.split()[0] for line in answer.stdout.splitlines() if line.strip())


def _runtime(cluster: Cluster) -> str:
    answer = cluster.transport.run([cluster.runtime.program, "--version"], timeout=30)
    if not answer.ok:
        raise classify(
            RuntimeError(answer.stderr.strip() or f"{cluster.runtime.program} ended with {answer.returncode}")
        )
    return answer.stdout.strip()


def _folder(cluster: Cluster, path: str) -> str:
    if not cluster.transport.exists(path):
        raise Permanent(f"{path} is not on the cluster")
    return path
