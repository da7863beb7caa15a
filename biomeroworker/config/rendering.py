"""The settings as text: all values, with passwords masked, and the tables of the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from biomeroworker.config.cluster_settings import AccountSettings
from biomeroworker.config.fields import Section
from biomeroworker.config.schema import WorkflowSettings
from biomeroworker.domain.redaction import mask_credentials

SBATCH = "sbatch_"

_SEVERAL = """Further clusters, for workflows with `<name>_cluster = <cluster>`. The keys are those of `[SSH]`,
`[SLURM]` and `[ACCOUNTS]`. No value is inherited from these sections or from the environment. The default of `host` is
the name of the cluster."""


def section_lines(name: str, section: Section) -> Iterator[tuple[str, str]]:
    """The settings of a section as text, by ``SECTION.key``."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, dict):
            yield from ((f"{name}.{SBATCH}{flag}", mask_credentials(words)) for flag, words in value.items())
        elif isinstance(value, SecretStr):
            yield f"{name}.{key}", _without_secret(key, value.get_secret_value())
        else:
            yield f"{name}.{key}", mask_credentials(text(value))


def account_lines(name: str, accounts: AccountSettings) -> Iterator[tuple[str, str]]:
    """The entries of an ``[ACCOUNTS]`` section."""
    if accounts.in_use:
        yield f"{name}.required", text(accounts.required)
    for kind, entries in (("user", accounts.user), ("group", accounts.group)):
        yield from ((f"{name}.{kind}.{who}", account) for who, account in entries.items())


def workflow_lines(workflow: str, settings: WorkflowSettings) -> Iterator[tuple[str, str]]:
    """The settings of a workflow."""
    yield f"WORKFLOWS.{workflow}", settings.path
    for key in ("repo", "job", "cluster", "use_gpu", "accepts"):
        if words := text(getattr(settings, key)):
            yield f"WORKFLOWS.{workflow}_{key}", mask_credentials(words)
    for flag, words in settings.job_params.items():
        yield f"WORKFLOWS.{workflow}_job_{flag}", mask_credentials(words)


def without_password(url: str) -> str:
    """A URL for display. Masked twice, because the two functions read a password with ``@`` differently."""
    from sqlalchemy.engine import make_url  # slow to import, and dialogs show no URL

    return mask_credentials(make_url(url).render_as_string(hide_password=True))


def _without_secret(key: str, secret: str) -> str:
    """A secret URL for display. The path of a webhook's URL is secret too."""
    if key == "webhook_url":
        scheme, _, rest = secret.partition("://")
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/***"
    return without_password(secret)


def text(value: Any) -> str:
    """A value in the format of the ini file."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
    return str(value)


def field_extras(field: Any) -> dict[str, Any]:
    """Facts about a setting besides its type: ``env``, ``ini``, ``default``, ``ignored``."""
    found = field.json_schema_extra
    return found if isinstance(found, dict) else {}


def settings_table(sections: Mapping[str, type[Section]]) -> str:
    """The settings as Markdown, with a table for each section."""
    lines: list[str] = []
    for name, kind in sections.items():
        lines += [f"### [{name}]", "", _summary(kind), ""]
        lines += ["| key | default | environment | meaning |", "|---|---|---|---|"]
        for key, field in kind.model_fields.items():
            more = field_extras(field)
            default = more.get("default") or text(None if field.default_factory else field.default)
            shown = f"`{default}`".replace("|", "\\|") if default else ""
            variables = ", ".join(f"`{variable}`" for variable in more.get("env", []))
            lines.append(f"| `{more.get('ini', key)}` | {shown} | {variables} | {_meaning(field)} |")
        lines.append("")
    lines += [
        "### [SSH:&lt;cluster&gt;], [SLURM:&lt;cluster&gt;], [ACCOUNTS:&lt;cluster&gt;]",
        "",
        _SEVERAL,
        "",
        "### [ACCOUNTS]",
        "",
        _summary(AccountSettings),
        "",
        *_short_table(AccountSettings, {}),
        "",
        "### [WORKFLOWS]",
        "",
        _summary(WorkflowSettings),
        "",
        *_short_table(WorkflowSettings, {"path": "<name>", "job_params": "<name>_job_<flag>"}, "<name>_"),
    ]
    lines += ["", "### [CONVERTERS]", "", "`<source>_to_<target> = image`, such as `zarr_to_tiff = name/image:tag`."]
    return "\n".join(lines) + "\n"


def _short_table(kind: type[BaseModel], spelled: Mapping[str, str], prefix: str = "") -> list[str]:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in kind.model_fields.items():
        name = spelled.get(key) or field_extras(field).get("ini") or f"{prefix}{key}"
        default = f"`{text(field.default)}`" if isinstance(field.default, bool) else ""
        lines.append(f"| `{name}` | {default} | {_meaning(field)} |")
    return lines


def _meaning(field: Any) -> str:
    return f"Ignored. {field.description}" if field_extras(field).get("ignored") else str(field.description)


def _summary(kind: type[BaseModel]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")
