"""Repeat a run that has ended as a new run, with the same parameters: for all inputs, or for those that failed.

A user may repeat the own runs; an administrator any run. The results belong to the user of the first run.
"""

import omero.scripts

from biomeroworker.omero.scripts import run_choice
from biomeroworker.omero.scripts.script import Script, current_account, execute

ONLY_FAILED = "Only_What_Failed"
DETACH = "Detach"


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then start the new run."""
    choices = run_choice.own_labels(current_account().user, run_choice.is_repeatable)
    execute(
        "Retry Run",
        "Repeat one of your runs that has ended, with the same parameters and options for the results. The first run "
        "and its results do not change.",
        [
            *run_choice.fields(choices, "repeat"),
            omero.scripts.Bool(
                ONLY_FAILED,
                optional=True,
                grouping="03",
                default=True,
                description="Only the inputs that failed or got no result. Off: all inputs again.",
            ),
            omero.scripts.Bool(
                DETACH,
                optional=True,
                grouping="04",
                default=False,
                description="End this script at once; the run continues. Off: show the progress of the run until it "
                "ends.",
            ),
        ],
        retry,
        live_choices=True,
    )


def retry(script: Script) -> str:
    """Start a run that repeats the chosen run, and show its progress."""
    from biomeroworker.deployment import run_actions
    from biomeroworker.deployment.deployment import Deployment
    from biomeroworker.omero.scripts import follow

    with Deployment.load() as deployment:
        requester = run_actions.Requester(script.account.user, script.account.is_admin)
        run = run_actions.find(deployment.log, run_choice.chosen(script.inputs), requester)
        request, inputs = run_actions.repeat(run, failed=script.inputs.get(ONLY_FAILED, True), switch=ONLY_FAILED)
        if script.inputs.get(DETACH):
            number = deployment.submit(request)
            return f"{run.name}, run {number}, repeats run {run.id}. {inputs} The supervisor executes it."
        script.report(f"Repeating {run.name}, run {run.id}. {inputs}")
        succeeded, runs = follow.submit_and_follow(deployment, [request], script.report, by=script.by)
    for kind, object_id in follow.made_objects(runs):
        script.output(kind, kind, object_id)
    if not succeeded:
        follow.fail(script.shown)
    return script.shown


if __name__ == "__main__":
    main()
