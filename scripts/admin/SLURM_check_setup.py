"""Check the deployment, like the command ``biomeroworker doctor``. For administrators of OMERO."""

from biomeroworker.omero.scripts.script import Script, execute


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then check."""
    execute(
        "Slurm Check Setup (Admin Only)",
        "Check the configuration, the database, the connection to the cluster, SLURM, the images and the workflows. "
        "Each problem is shown with the setting to change. Nothing is changed.",
        [],
        check,
        admins_only=True,
    )


def check(script: Script) -> str:
    """Print each finding when it is known; the message has the problems, those that fail first."""
    from biomeroworker.deployment.deployment import Deployment

    found: dict[str, list[str]] = {"fail": [], "warn": [], "ok": []}
    with Deployment.load() as deployment:
        for finding in deployment.doctor():
            if finding.subject.startswith("omero"):  # a script has no login of the worker, and runs in OMERO already
                continue
            lines = [f"{finding.level:<4} {finding.subject}: {finding.message}"]
            lines += [f"     {more}" for more in (finding.setting, finding.remedy) if more]
            found[finding.level].append("\n".join(lines))
            print(found[finding.level][-1], flush=True)
    counts = f"{len(found['ok'])} checks are ok, {len(found['warn'])} need attention, {len(found['fail'])} fail."
    return "\n".join([counts, *found["fail"], *found["warn"]])


if __name__ == "__main__":
    main()
