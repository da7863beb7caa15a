"""The incumbent following one job, as its script does: one process per run, until the job ends."""

import sys

from fabric import Config
from kinds import answering


class Connection:
    """The methods of an OMERO connection that its loop calls."""

    def keepAlive(self):  # noqa: N802
        """Nothing."""


def main(ssh_config, host, url, job):
    import logging

    from biomero.slurm_client import SlurmClient, SlurmJob

    answer = answering()
    logging.disable(logging.WARNING)
    client = SlurmClient(
        host=host, config=Config(runtime_ssh_path=ssh_config), slurm_data_path="data", slurm_model_repos={},
        slurm_model_images={}, sqlalchemy_url=url, connect_kwargs={"look_for_keys": False},
    )  # fmt: skip
    run = client.workflowTracker.initiate_workflow(f"run {job}", "a benchmark", 1, 2)
    task = client.workflowTracker.add_task_to_workflow(run, "nuclei", "v1", {}, {})
    client.workflowTracker.add_job_id(task, int(job))
    submitted = client.run("true", hide=True)
    answer("ready")
    SlurmJob(submitted, int(job), run, task).wait_for_completion(client, Connection())


main(*sys.argv[1:])
