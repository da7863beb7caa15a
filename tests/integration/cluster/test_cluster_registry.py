"""Several clusters in one configuration: the runs of a workflow go to its configured cluster."""

import pytest

from biomeroworker.cluster.registry import Clusters
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.errors import Blocked
from biomeroworker.eventlog.aggregates.states import RunState


def test_a_run_goes_to_the_cluster_of_its_workflow(make_site):
    site = make_site(pull=False)
    text = site.config.read_text()
    home = site.deployment.settings.default_cluster.slurm.slurm_data_path.removesuffix("/data")
    site.config.write_text(
        text.replace("host = ", "host = nowhere-").replace("slurm_data_path = ", "slurm_data_path = /nowhere")
        + f"""obedient_cluster = second
[SSH:second]
host = {site.deployment.settings.default_cluster.ssh.host}
config_file = {site.deployment.settings.default_cluster.ssh.config_file}
[SLURM:second]
slurm_data_path = {home}/second
slurm_images_path = {home}/images
slurm_converters_path = {home}/converters
insecure_registries = {",".join(site.deployment.settings.default_cluster.slurm.insecure_registries)}
sbatch_mem = 128M
poll_seconds = 5
[ACCOUNTS:second]
required = true
group.Lab = lab
"""
    )
    site.deployment.close()
    site.deployment = Deployment.load(site.config)
    site.deployment.provision().raise_for_failures()

    refused = site.execute(site.request(site.images("one.tif")).model_copy(update={"group_name": "Other"}))
    assert refused.state is RunState.FAILED
    assert "[ACCOUNTS:second] group.Other = <account>" in refused.report["message"]

    run = site.execute(site.request(site.images("one.tif")).model_copy(update={"group_name": "Lab"}))
    assert run.state is RunState.DONE, run.report
    plan = ExecutionPlan.from_run(run)
    assert (plan.cluster, plan.options["account"], plan.options["mem"]) == ("second", "lab", "128M")
    assert site.deployment.clusters["second"].transport.exists(f"{home}/second/biomero_{run.id}")
    assert (site.results(run) / "one_text.txt").exists()
    site.deployment.close()


def test_a_run_on_a_removed_cluster_is_paused(make_site):
    settings = make_site(pull=False).deployment.settings
    clusters = Clusters(settings)
    assert list(clusters) == [""]
    with pytest.raises(Blocked) as caught:
        clusters["gone"]
    assert "[SSH:gone]" in caught.value.hint
