"""The outputs that a script gives to OMERO.web besides its message: what *Activities* links to.

``Dataset``: the dataset of the results. ``URL``: a link to it. ``File_Annotation`` (``Job_Log`` of a run that failed):
the log of the run, as an attachment.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import omero
import omero.model
from omero.rtypes import robject, wrap

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.omero.importing.annotations import annotation_link
from biomeroworker.omero.importing.files import upload_text
from biomeroworker.omero.scripts.follow import Deployment
from biomeroworker.omero.scripts.messages import made_objects
from biomeroworker.omero.scripts.script import Script

log = logging.getLogger(__name__)

LOG_NAMESPACE = "biomero/workflow/log"
#: The server's setting with the address of its OMERO.web.
WEB_ADDRESS = "omero.client.web.host"
#: Objects that a link shows.
OBJECTS_SHOWN = 20


def publish(script: Script, deployment: Deployment, runs: Sequence[WorkflowRun]) -> None:
    """Give the outputs of ended runs to OMERO. What cannot be given is logged: the runs have ended all the same."""
    datasets = [number for kind, number in made_objects(runs) if kind == "Dataset"]
    for number in datasets[:1]:
        script.output("Dataset", "Dataset", number)
    if link := web_link(runs):
        address = ""
        with contextlib.suppress(omero.ServerError):
            address = script.client.sf.getConfigService().getConfigValue(WEB_ADDRESS) or ""
        title = "Open the results in OMERO.web" if datasets else "Open the inputs in OMERO.web"
        url = {"type": "URL", "href": f"{address.rstrip('/')}{link}", "title": title}
        script.client.setOutput("URL", wrap(url))
    for run in runs:
        try:
            _publish_log(script, deployment, run)
        except Exception as error:
            log.warning("the log of run %s is not attached: %s", run.id, error)


def web_link(runs: Sequence[Any]) -> str:
    """The path in OMERO.web that shows the datasets of the results; without one, the inputs. Empty for no run."""
    shown = [f"{kind.lower()}-{number}" for kind, number in made_objects(runs)]
    for run in runs if not shown else ():
        inputs = run.recorded_request.inputs
        shown += [f"{str(inputs.get('type')).lower()}-{number}" for number in inputs.get("ids") or ()]
    unique = list(dict.fromkeys(shown))[:OBJECTS_SHOWN]
    return f"/webclient/?show={'|'.join(unique)}" if unique else ""


def _publish_log(script: Script, deployment: Deployment, run: WorkflowRun) -> None:
    text = deployment.job_log(run)
    with script.session() as session:
        number = upload_text(
            session, text, f"{run.name}-{str(run.id)[:8]}-log.txt", f"Log of run {run.id}", LOG_NAMESPACE
        )
        inputs = run.recorded_request.inputs
        targets = [*made_objects([run]), *((str(inputs.get("type")), int(one)) for one in inputs.get("ids") or ())]
        for kind, target in targets[:2]:
            # on an object that is read-only for the user, or gone, it cannot be attached
            with contextlib.suppress(Exception):
                session.save([annotation_link(kind, target, omero.model.FileAnnotationI(number, False))])
                break
        (annotation,) = session.query("select a from FileAnnotation a join fetch a.file where a.id = :id", id=number)
    script.client.setOutput("File_Annotation" if str(run.state) == "done" else "Job_Log", robject(annotation))
