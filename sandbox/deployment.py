"""Write the configuration of biomeroworker for a sandbox."""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Name of the demo's workflow in the configuration.
WORKFLOW = "nuclei"
IMAGE = "lab/w_nucleisegmentation"
CONVERTER = "lab/convert_zarr_to_tiff"
VERSION = "v1.0.0"


def config_path(root: Path) -> Path:
    """The ini file that `write` creates."""
    return root / "worker" / "slurm-config.ini"


def write(root: Path, env: Mapping[str, str]) -> Path | None:
    """Write ``worker/slurm-config.ini`` and the workflow's descriptor, with the addresses of this sandbox.

    ``env`` has the variables of ``python -m sandbox env``. Returns the path of the ini file; None for a sandbox without
    cluster or registry, for which no file is written.
    """
    if "REGISTRY" not in env or "CLUSTER_HOME" not in env:
        return None
    folder = root / "worker"
    (folder / WORKFLOW).mkdir(parents=True, exist_ok=True)
    registry, home = env["REGISTRY"], env["CLUSTER_HOME"]
    descriptor = json.loads((HERE / "workflow/descriptor.json").read_text())
    descriptor["container-image"]["image"] = f"{registry}/{IMAGE}:{VERSION}"
    _publish(folder / WORKFLOW / "descriptor.json", json.dumps(descriptor, indent=2) + "\n")

    ini = configparser.ConfigParser(interpolation=None)
    ini["SSH"] = {"host": env["SSH_HOST"], "config_file": env["SSH_CONFIG"]}
    ini["SLURM"] = {
        "slurm_data_path": f"{home}/data",
        "slurm_images_path": f"{home}/images/workflows",
        "slurm_converters_path": f"{home}/images/converters",
        "insecure_registries": registry,
        "sbatch_mem": "2G",
    }
    ini["ANALYTICS"] = {"sqlalchemy_url": env["SQLALCHEMY_URL"]} if "SQLALCHEMY_URL" in env else {}
    ini["WORKER"] = {"work_folder": str(folder / "runs")}
    ini["CONVERTERS"] = {"zarr_to_tiff": f"{registry}/{CONVERTER}:{VERSION}"}
    ini["WORKFLOWS"] = {
        WORKFLOW: WORKFLOW,
        f"{WORKFLOW}_repo": str(folder / WORKFLOW),
        f"{WORKFLOW}_job_time": "00:10:00",
        f"{WORKFLOW}_job_cpus-per-task": "2",
    }
    path = config_path(root)
    partial = path.with_suffix(".part")
    with partial.open("w") as file:
        partial.chmod(0o600)  # contains the password of the database
        ini.write(file)
    partial.replace(path)
    return path


def _publish(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text)
    partial.replace(path)
