"""Queries about workflows: their parameters, descriptors, images and versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from biomero.compat import fields
from biomero.compat.remote_data import run_checked
from biomero.compat.schema import describe, dialog_type
from biomeroworker.cluster.containers import runtime
from biomeroworker.cluster.containers.runtime import Reference
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.errors import BiomeroWorkerError, ConfigError
from biomeroworker.workflows.descriptor import Parameter
from biomeroworker.workflows.refresh import Refresher, store_of
from biomeroworker.workflows.store import Network, candidates, content_of, is_address, parse


class Workflows:
    """The workflows of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    # -- images -------------------------------------------------------------------------------------------------------

    def get_image_versions_and_data_files(self, model: str) -> tuple[list[str], list[str]]:
        """The versions of a workflow on the cluster, newest first, and the names of the zip files with data there."""
        if model not in self._deployment.settings.workflows:
            raise ValueError(
                f"{model!r} is not a workflow; there are {', '.join(self._deployment.settings.workflows) or 'none'}"
            )
        cluster = self._deployment.clusters[self._deployment.settings.workflows[model].cluster]
        path = self._deployment.settings.workflows[model].path
        return cluster.versions([path])[path], self._data_files()

    def get_all_image_versions_and_data_files(self) -> tuple[dict[str, list[str]], list[str]]:
        """The same for all workflows: one remote execution for each cluster, one for the data.

        Without the workflows that are disabled: old scripts make a dialog from the descriptors of all of them.
        """
        settings = self._deployment.settings.workflows
        usable = [model for model, _ in self._deployment.catalogue.usable()]
        versions: dict[str, list[str]] = {}
        for name in self._deployment.clusters:
            paths = {model: settings[model].path for model in usable if settings[model].cluster == name}
            found = self._deployment.clusters[name].versions(list(paths.values())) if paths else {}
            versions.update({model: found.get(path, []) for model, path in paths.items()})
        return {model: versions[model] for model in usable}, self._data_files()

    def _data_files(self) -> list[str]:
        program = '[ -d "$1" ] && find "$1/" -maxdepth 1 -name "*.zip" -printf "%f\\n"; :'
        answer = run_checked(
            self._deployment.cluster,
            ["sh", "-c", program, "list", self._deployment.cluster.remote_paths.data],
            "listing data",
        )
        return sorted(line.removesuffix(".zip") for line in answer.stdout.splitlines())

    def list_available_converter_versions(self) -> dict[str, list[str]]:
        """The versions of each converter on the cluster, newest first; empty where there is none."""
        folder = self._deployment.cluster.remote_paths.converters
        program = '[ -d "$1" ] && find "$1/" -maxdepth 1 -type f -size +0 -printf "%f\\n"; :'
        answer = run_checked(self._deployment.cluster, ["sh", "-c", program, "list", folder], "listing converters")
        found: dict[str, list[str]] = {}
        for name in answer.stdout.splitlines():
            if match := re.fullmatch(r"convert_(\w+?_to_[a-z]+)_(\S+)\.(?:sif|sqfs|simg)", name):
                found.setdefault(match[1], []).append(name)
        return {key: runtime.versions(names) for key, names in found.items()}

    def parse_docker_image_version(self, image: str) -> tuple[str | None, str]:
        """The tag of an image's reference (None if it has none), and the reference without it."""
        try:
            parsed = Reference.parse(image)
        except BiomeroWorkerError:
            return None, image
        return parsed.tag or None, f"{parsed.registry}/{parsed.path}".lstrip("/")

    # -- descriptors --------------------------------------------------------------------------------------------------

    def init_workflows(self, force_update: bool = False) -> None:
        """Read all descriptors; ``force_update`` fetches remote ones again, also if the cached copies are fresh."""
        for name, one in self._deployment.settings.workflows.items():
            if force_update and is_address(one.repo):
                try:
                    store_of(self._deployment.settings).load(one.repo, Network.ALWAYS)
                except ConfigError as error:
                    self._deployment.catalogue.problems[name] = str(error)
        list(self._deployment.catalogue.usable())

    def refresh(self) -> None:
        """Refresh what dialogs show: descriptors that are old, and the versions on the clusters."""
        Refresher(self._deployment.settings, self._deployment.clusters).refresh()

    def generic_descriptor_from_github(self, workflow: str) -> dict[str, Any]:
        """A workflow's descriptor in the form of biomero-schema, whatever its own format: by name or by location."""
        location = workflow
        if workflow in self._deployment.settings.workflows:
            self._deployment.catalogue.get(workflow)  # raises if the workflow is disabled
            location = self._deployment.settings.workflows[workflow].repo
        elif not is_address(workflow) and not workflow.startswith(("/", "~", ".")):
            self._deployment.catalogue.get(workflow)  # raises an error that names the known workflows
        found = store_of(self._deployment.settings).find(location)
        return describe(parse(found.text, found.origin), content_of(found.text, found.origin))

    def get_workflow_parameters(self, workflow: str) -> dict[str, dict[str, Any]]:
        """The parameters that are a user's to give, by id: name, default, type, flag, description, choices, bounds."""
        return {one.id: _described(one) for one in self._deployment.catalogue.get(workflow).parameters}

    def get_file_attachment_params(self, workflow: str) -> dict[str, dict[str, Any]]:
        """Those of them that are files."""
        return {name: one for name, one in self.get_workflow_parameters(workflow).items() if one["file_attachment"]}

    def convert_param_type_to_omtype(self, param_type: str, _default: Any, *args: Any, **kwargs: Any) -> Any:
        """A field of a script's dialog (``omero.scripts``) for a parameter's type."""
        return fields.field(param_type, _default, *args, **kwargs)

    def convert_url(self, input_url: str, ext: str = ".json") -> str:
        """The address at which the descriptor of a repository is looked for first."""
        found = [address for address in candidates(input_url) if address.endswith(ext)]
        if not found:
            raise ValueError(f"{input_url!r}: no descriptor {ext} can lie there")
        return found[0]

    def extract_parts_from_url(self, input_url: str) -> tuple[list[str], str]:
        """The parts of an address between slashes, and the reference after ``/tree/`` (``master`` if there is none)."""
        parts = input_url.split("/")
        if is_address(input_url) and len(parts) < 5:
            raise ValueError(f"{input_url!r} names no repository")
        _, _, rest = input_url.partition("/tree/")
        return parts, rest.split("/")[0] or "master"


def _described(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.id,
        "default": parameter.default,
        "type": dialog_type(parameter),
        "optional": parameter.optional,
        "cmd_flag": parameter.command_line_flag,
        "description": parameter.description,
        "file_attachment": parameter.file_attachment,
        "format": list(parameter.formats),
    }
    more: Mapping[str, Any] = {
        "choices": list(parameter.choices), "minimum": parameter.minimum, "maximum": parameter.maximum,
    }  # fmt: skip
    return {**described, **{key: value for key, value in more.items() if value not in (None, [])}}
