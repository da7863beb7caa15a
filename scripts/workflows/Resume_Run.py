"""Continue a paused run with the step where it stopped, after its cause is fixed.

A user may resume the own runs; an administrator any run.
"""

from biomeroworker.omero.scripts import run_choice
from biomeroworker.omero.scripts.script import Script, current_account, execute


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then resume the run."""
    choices = run_choice.own_labels(current_account().user, run_choice.is_resumable)
    execute(
        "Resume Run",
        "Continue one of your paused runs. A run is paused when a person must fix the cause of a problem first, for "
        "example a full disk. No result that exists is computed again.",
        run_choice.fields(choices, "continue"),
        resume,
        live_choices=True,
    )


def resume(script: Script) -> str:
    """Resume the chosen run."""
    from biomeroworker.deployment import run_actions
    from biomeroworker.deployment.deployment import Deployment

    with Deployment.load() as deployment:
        requester = run_actions.Requester(script.account.user, script.account.is_admin)
        run = run_actions.find(deployment.log, run_choice.chosen(script.inputs), requester)
        next_step = run_actions.resume(deployment.log, run)
    return f"{run.name}, run {run.id}, is resumed. It was paused: {run.pause_reason}\n{next_step}"


if __name__ == "__main__":
    main()
