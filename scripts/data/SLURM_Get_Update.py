"""Show the state of a run or of a SLURM job, and the log of the job."""

import omero.clients
import omero.scripts
from omero.rtypes import rstring

from biomeroworker.omero.scripts import run_choice
from biomeroworker.omero.scripts.script import Script, current_account, execute

RUNNING, RUNNING_ID = "Running Job", "SLURM Job Id"
COMPLETED, COMPLETED_ID = "Completed Job", "SLURM Job Id (old)"
PROJECT = "Project"
LOG_LINES = 20


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then show the state."""
    choices = run_choice.own_labels(current_account().user, lambda run, now: True)
    text = {"optional": True}
    execute(
        "Slurm Get Update",
        "Show the state of one of your runs or SLURM jobs, and the end of the log of the job.",
        [
            *run_choice.fields(choices, "show"),
            omero.scripts.Bool(RUNNING, grouping="03", default=True, description="Show the job with this ID.", **text),
            omero.scripts.String(RUNNING_ID, grouping="03.1", description="The ID of a SLURM job.", **text),
            omero.scripts.Bool(COMPLETED, grouping="04", default=False, description="Show the job below.", **text),
            omero.scripts.String(COMPLETED_ID, grouping="04.1", description="The ID of a job that has ended.", **text),
            omero.scripts.List(
                PROJECT, grouping="05", description="No effect: the log is in the output of this script.", **text
            ).ofType(rstring("")),
        ],
        show,
        live_choices=True,
    )


def show(script: Script) -> str:
    """The state of the run or the job."""
    import tempfile
    from pathlib import Path

    from biomero import SlurmClient
    from biomeroworker.deployment import run_actions
    from biomeroworker.deployment.fetch_results import run_of_job
    from biomeroworker.omero.scripts import follow
    from biomeroworker.omero.scripts.results_fields import job_id

    given = script.inputs
    requester = run_actions.Requester(script.account.user, script.account.is_admin)
    with SlurmClient.from_config() as client:
        if given.get(run_choice.RUN) or given.get(run_choice.RUN_ID):
            return follow.describe(run_actions.find(client.log, run_choice.chosen(given), requester))
        number = job_id(given, COMPLETED_ID if given.get(COMPLETED) else RUNNING_ID)
        run = run_of_job(client.deployment, number, requester)
        state = client.check_job_status([number])[0][number]
        lines = [f"SLURM job {number}: {state}", *([follow.describe(run)] if run else [])]
        with tempfile.TemporaryDirectory(prefix="biomeroworker-") as local:
            try:
                _, log, _ = client.get_logfile_from_slurm(number, local)
                text = Path(log).read_text(errors="replace")
            except FileNotFoundError:
                return "\n".join([*lines, "It has no log on the cluster: it has not started, or the log was removed."])
        print(text)
    lines.append("The whole log is in the output of this script. The end of it:")
    return "\n".join([*lines, *text.splitlines()[-LOG_LINES:]])


if __name__ == "__main__":
    main()
