"""Cancel a run: its SLURM job ends, and nothing is imported.

A user may cancel the own runs; an administrator any run.
"""

from biomeroworker.omero.scripts import run_choice
from biomeroworker.omero.scripts.script import Script, current_account, execute


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then request the cancellation."""
    choices = run_choice.own_labels(current_account().user, run_choice.is_cancellable)
    execute(
        "Cancel Run",
        "Cancel one of your runs on the SLURM cluster. Its job ends, and its results are not imported.",
        run_choice.fields(choices, "cancel"),
        cancel,
        live_choices=True,
    )


def cancel(script: Script) -> str:
    """Request the cancellation of the chosen run."""
    from biomeroworker.deployment import run_actions
    from biomeroworker.deployment.deployment import Deployment

    with Deployment.load() as deployment:
        requester = run_actions.Requester(script.account.user, script.account.is_admin)
        run = run_actions.find(deployment.log, run_choice.chosen(script.inputs), requester)
        next_step = run_actions.cancel(deployment.log, run, script.by)
    return f"Cancellation of {run.name}, run {run.id}, is requested. {next_step}"


if __name__ == "__main__":
    main()
