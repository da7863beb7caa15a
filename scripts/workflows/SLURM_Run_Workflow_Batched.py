"""Run a workflow on many images on the SLURM cluster, in batches.

It is one run: each batch is a task of an array job, and all results are imported together. Otherwise as
SLURM_Run_Workflow.py.
"""

from biomeroworker.omero.scripts import run_workflow


def deployment():
    """Open the deployment; slow to import, and not needed for the dialog."""
    from biomeroworker.deployment.deployment import Deployment

    return Deployment.load()


if __name__ == "__main__":
    run_workflow.main(
        "Slurm Workflow (Batched)",
        "Run a workflow on many images on the SLURM cluster, in batches that compute at the same time.",
        deployment,
        batched=True,
    )
