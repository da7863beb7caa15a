"""Prepare the clusters, like the command ``biomeroworker init``. For administrators of OMERO."""

import omero.clients
import omero.scripts

from biomeroworker.omero.scripts.script import Script, execute

INIT = "Init Slurm"
CONFIG = "Extra Config file (optional!)"
REBUILD = "Rebuild Analytics Views (skip if only adding new workflows!)"
REBUILD_DAYS = "Rebuild From Days Ago"
REBUILD_DATE = "Rebuild From Date"


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then prepare the clusters."""
    execute(
        "Slurm Init (Admin Only)",
        "Create the folders on the clusters, and pull the images of workflows and converters that are missing. "
        "What exists is not changed. Run it after you add a workflow.",
        [
            omero.scripts.Bool(INIT, optional=True, grouping="01", default=True, description="Prepare the clusters."),
            omero.scripts.String(
                CONFIG,
                optional=True,
                grouping="01.1",
                description="An ini file on the node that is read after the standard files, for this script only.",
            ),
            omero.scripts.Bool(
                REBUILD,
                optional=True,
                grouping="01.2",
                default=False,
                description="Build the tables for lists and dashboards again from all events of the database.",
            ),
            omero.scripts.Int(
                REBUILD_DAYS, optional=True, grouping="01.3", description="No effect: all events are read."
            ),
            omero.scripts.String(
                REBUILD_DATE, optional=True, grouping="01.4", description="No effect: all events are read."
            ),
        ],
        init,
        admins_only=True,
    )


def init(script: Script) -> str:
    """Prepare the clusters and rebuild the tables, as selected."""
    from biomeroworker.deployment.deployment import Deployment
    from biomeroworker.errors import Permanent, RequestRejected

    wanted = {name: bool(script.inputs.get(name)) for name in (INIT, REBUILD)}
    if not any(wanted.values()):
        raise RequestRejected(f"nothing to do: select {INIT!r} or {REBUILD!r}")
    done = []
    with Deployment.load(str(script.inputs.get(CONFIG) or "").strip() or None) as deployment:
        if wanted[REBUILD]:
            done.append(f"The tables are built again from {deployment.log.rebuild()} events.")
        if wanted[INIT]:
            prepared = deployment.provision(script.report)
            ready = sum(outcome.image is not None for outcome in prepared.outcomes)
            done.append(f"The clusters have {ready} images that are ready.")
            if prepared.faults:
                lines = [f"{name}: {fault}" for name, fault in prepared.faults.items()]
                lines += [f"Next for {name}: {fault.hint}" for name, fault in prepared.faults.items() if fault.hint]
                raise Permanent("\n".join([*done, f"Problems: {len(prepared.faults)}.", *lines]))
    return " ".join(done)


if __name__ == "__main__":
    main()
