"""A biologist runs a workflow from OMERO.web: tree, dialog, Activities, result."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sandbox.deployment import WORKFLOW
from tests.browser.lab import SMALL_WORKFLOW, Lab, wait_until
from tests.browser.webclient import WebClient, run_id

pytestmark = pytest.mark.sandbox

SCRIPT = "SLURM Run Workflow"
NAME = "Slurm Workflow"


def test_the_tree_shows_the_dataset_with_thumbnails_of_its_images(client: WebClient, screenshots: Path) -> None:
    client.select_dataset(client.lab.data.dataset, images=2)

    expect(client.node("nuclei 2-D")).to_be_visible()
    expect(client.node("nuclei 3-D")).to_be_visible()
    client.page.screenshot(path=screenshots / "tree.png")


def test_the_dialog_takes_the_selected_dataset_and_shows_the_workflow_with_its_defaults(
    client: WebClient, screenshots: Path, figure: Callable[[str, float], None]
) -> None:
    client.select_dataset(client.lab.data.dataset, images=2)
    for opening in ("first", "second"):
        started = time.monotonic()
        dialog = client.open_dialog(SCRIPT)
        figure(f"seconds until the dialog is open, {opening} time", time.monotonic() - started)
        if opening == "first":
            dialog.close()

    dialog.screenshot(path=screenshots / "dialog.png", full_page=True)
    expect(dialog.locator("select[name='Data_Type']")).to_have_value("Dataset")
    expect(dialog.locator("input[name='IDs']")).to_have_value(str(client.lab.data.dataset))
    expect(dialog.locator(f"select[name='{WORKFLOW}_Version']")).to_have_value("v1.0.0")
    expect(dialog.locator(f"input[name='{WORKFLOW}_|_min_size']")).to_have_value(re.compile(r"^10(\.0)?$"))
    expect(dialog.locator(f"input[name='{WORKFLOW}_|_export_csv']")).to_be_checked()


def test_a_run_from_the_dialog_ends_in_activities_and_its_results_are_in_the_tree(
    client: WebClient, screenshots: Path, figure: Callable[[str, float], None]
) -> None:
    client.select_dataset(client.lab.data.dataset, images=2)
    dialog = client.open_dialog(SCRIPT)
    dialog.locator(f"input[name='{WORKFLOW}']").check()
    dialog.locator("input[name='3a) Import into NEW Dataset']").fill("nuclei found")
    dialog.screenshot(path=screenshots / "dialog-filled.png")

    started = time.monotonic()
    row = client.run(dialog, NAME)
    figure("seconds from the click until Activities shows the run", time.monotonic() - started)
    client.page.screenshot(path=screenshots / "activities-running.png")
    message = client.wait_for_end(row)
    figure("seconds from the click until Activities shows the end", time.monotonic() - started)

    client.page.screenshot(path=screenshots / "activities-done.png")
    expect(row.locator(".activities_state img")).to_have_attribute("alt", "Success")
    assert "2 images" in message
    row.locator("a.browse").first.click()
    expect(client.page.locator("#dataTree .jstree-clicked")).to_contain_text("nuclei found")
    thumbnails = client.page.locator("#dataIcons img")
    expect(thumbnails).to_have_count(2)
    expect(thumbnails.first).to_have_attribute("src", re.compile("^data:image/jpeg"))
    client.page.screenshot(path=screenshots / "result.png")


def test_a_batched_run_from_its_dialog_computes_each_image_in_a_task_of_its_own(
    client: WebClient, lab: Lab, screenshots: Path
) -> None:
    client.select_dataset(lab.data.dataset, images=2)
    dialog = client.open_dialog(f"{SCRIPT} Batched")
    dialog.locator("input[name='Batch_Size']").fill("1")
    dialog.locator(f"input[name='{SMALL_WORKFLOW}']").check()
    dialog.locator("input[name='Use_ZARR_Format']").check()
    dialog.locator(f"input[name='{SMALL_WORKFLOW}_|_labels']").check()
    dialog.locator("input[name='3a) Import into NEW Dataset']").fill("found in batches")
    dialog.screenshot(path=screenshots / "batched-dialog.png", full_page=True)

    row = client.run(dialog, f"{NAME} (Batched)")
    message = client.wait_for_end(row)

    client.page.screenshot(path=screenshots / "batched-activities.png")
    expect(row.locator(".activities_state img")).to_have_attribute("alt", "Success")
    assert "2 images" in message
    row.locator("a.browse").first.click()
    expect(client.page.locator("#dataTree .jstree-clicked")).to_contain_text("found in batches")
    expect(client.page.locator("#dataIcons img")).to_have_count(2)
    wait_until(lambda: len(lab.completed_tasks(run_id(message))) == 2)


def test_the_report_is_an_attachment_of_the_dataset_and_opens_and_a_file_is_one_of_its_image(
    client: WebClient, new_page: Callable[..., Page], screenshots: Path, tmp_path: Path
) -> None:
    client.select_dataset(client.lab.data.dataset, images=2)
    dialog = client.open_dialog(SCRIPT)
    dialog.locator(f"input[name='{SMALL_WORKFLOW}']").check()
    dialog.locator("input[name='Use_ZARR_Format']").check()
    dialog.locator(f"input[name='{SMALL_WORKFLOW}_|_text']").fill("counted: 12")
    row = client.run(dialog, NAME)
    run = run_id(client.wait_for_end(row))
    client.select_dataset(client.lab.data.dataset, images=2)

    attachments = client.attachments()

    link = attachments.locator("a", has_text=f"run-report-{run[:8]}.html")
    expect(link).to_be_visible()
    expect(attachments.filter(has_text=f"{SMALL_WORKFLOW}-{run[:8]}-log.txt")).to_be_visible()
    client.page.screenshot(path=screenshots / "attachments.png")
    with client.page.expect_download() as download:
        link.click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    report = new_page()
    report.goto(file.as_uri())
    report.screenshot(path=screenshots / "attached-report.png", full_page=True)
    expect(report.get_by_text(run).first).to_be_visible()
    expect(report.get_by_text("counted: 12").first).to_be_visible()
    client.select_image(client.lab.data.images["nuclei 2-D"])
    expect(client.attachments().filter(has_text="_text.txt").first).to_be_visible()
    client.page.screenshot(path=screenshots / "attachments-image.png")
