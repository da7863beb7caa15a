"""A biologist cancels a run with the script *Cancel Run*."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.lab import SMALL_WORKFLOW, Lab, wait_until
from tests.browser.webclient import WebClient, run_id

pytestmark = pytest.mark.sandbox


def test_a_run_that_continues_without_its_script_is_cancelled_by_the_script_for_it(
    client: WebClient, lab: Lab, screenshots: Path
) -> None:
    client.select_dataset(lab.data.dataset, images=2)
    dialog = client.open_dialog("SLURM Run Workflow")
    dialog.locator(f"input[name='{SMALL_WORKFLOW}']").check()
    dialog.locator("input[name='Use_ZARR_Format']").check()
    dialog.locator(f"input[name='{SMALL_WORKFLOW}_|_sleep']").fill("500")
    dialog.locator("input[name='Detach']").check()
    started = client.run(dialog, "Slurm Workflow")
    run = run_id(client.wait_for_end(started))
    expect(started.locator(".activities_state img")).to_have_attribute("alt", "Success")
    wait_until(lambda: lab.running_jobs(run))

    dialog = client.open_dialog("Cancel Run")
    choice = dialog.locator("select[name='Run'] option", has_text=run[:8])
    dialog.locator("select[name='Run']").select_option(label=choice.inner_text())
    dialog.screenshot(path=screenshots / "cancel-dialog.png")
    row = client.run(dialog, "Cancel Run")
    message = client.wait_for_end(row)

    client.page.screenshot(path=screenshots / "cancel-activities.png")
    expect(row.locator(".activities_state img")).to_have_attribute("alt", "Success")
    assert f"Cancellation of {SMALL_WORKFLOW}, run {run}, is requested." in message
    wait_until(lambda: not lab.running_jobs(run))
    wait_until(lambda: lab.state(run) == "cancelled")
