"""One run of the incumbent, from accepted to done, with only the calls that its scripts make.

Its scripts are separate processes with separate clients and connections: one runs the workflow and follows its job, one
sends the images, one fetches the results. Requests to GitHub are answered from a local file.
"""

import json
import sys
import time
from pathlib import Path

from fabric import Config
from kinds import answering


def main(given):
    import logging

    from biomero.slurm_client import SlurmClient

    answer = answering()
    logging.disable(logging.WARNING)
    given = json.loads(given)
    descriptor = json.loads(Path(given["descriptor"]).read_text())
    SlurmClient._parse_descriptor_from_repo = lambda self, url, name: descriptor
    name, home = "obedient", given["home"]

    def client():
        return SlurmClient(
            host=given["host"], config=Config(runtime_ssh_path=given["ssh_config"]), slurm_data_path=f"{home}/theirs",
            slurm_images_path=f"{home}/images", slurm_script_path=f"{home}/scripts", slurm_model_paths={name: name},
            slurm_model_repos={name: "https://github.com/lab/obedient"}, slurm_model_jobs={name: "jobs/obedient.sh"},
            slurm_model_jobs_params={name: [" --mem=256M", " --cpus-per-task=1"]}, slurm_model_images={},
            slurm_zip_cmd=SlurmClient._DEFAULT_SLURM_ZIP_CMD, sqlalchemy_url=given["url"],
            connect_kwargs={"look_for_keys": False},
        )  # fmt: skip

    answer("ready")
    sys.stdin.readline()
    began = time.monotonic()
    runs = client()
    run = runs.workflowTracker.initiate_workflow("obedient", "a benchmark", 1, 2)
    runs.update_slurm_scripts(generate_jobs=True)
    folder = Path(given["archive"]).stem

    sends = client()
    sends.transfer_data(given["archive"])
    sends.unpack_data(folder)
    sends.close()

    job = runs.run_workflow_job(name, "v1.0.0", folder, wf_id=run, sleep=given["sleep"])
    Connection = type("Connection", (), {"keepAlive": lambda self: None})  # noqa: N806
    state = job.wait_for_completion(runs, Connection())

    brings = client()
    brings.get_logfile_from_slurm(str(job.job_id), given["results"] + "/")
    where = brings.extract_data_location_from_log(str(job.job_id))
    brings.zip_data_on_slurm_server(where, f"{job.job_id}_out")
    brings.copy_zip_locally(given["results"] + "/", f"{where}/{job.job_id}_out")
    brings.cleanup_tmp_files(str(job.job_id), f"{where}/{job.job_id}_out", where)
    brings.close()
    runs.workflowTracker.complete_workflow(run)
    answer({"state": state, "seconds": time.monotonic() - began})


main(sys.argv[1])
