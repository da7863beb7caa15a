"""The plugin OMERO.biomero on our worker: its page of workflows, a run from it, and its page of settings."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.biomero_page import BiomeroPage
from tests.browser.lab import Lab
from tests.browser.webclient import WebClient

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("batched", [False, True], ids=["in one job", "batched"])
def test_a_run_from_the_page_of_workflows_ends_well(
    client: WebClient, lab: Lab, screenshots: Path, batched: bool
) -> None:
    page = BiomeroPage(client.page, lab)
    client.page.screenshot(path=screenshots / "biomero-workflows.png")
    page.open_workflow("Nuclei")
    page.choose_input("biomeroworker demo", "nuclei")
    if batched:
        page.switch("Enable batch processing")
        client.page.screenshot(path=screenshots / "biomero-batched.png")
    page.next()
    client.page.screenshot(path=screenshots / "biomero-parameters.png")
    page.next()
    name = f"nuclei {'batched' if batched else 'in one job'}"
    page.choose_new_dataset(name)
    client.page.screenshot(path=screenshots / "biomero-results.png")
    page.run()

    client.show_activities()
    row = client.activity("nuclei")
    message = client.wait_for_end(row)
    client.page.screenshot(path=screenshots / f"biomero-activities-{'batched' if batched else 'single'}.png")
    expect(row.locator(".activities_state img")).to_have_attribute("alt", "Success")
    assert "2 images" in message
    with lab.connected() as connection:
        dataset = connection.getObject("Dataset", attributes={"name": name})
        assert len(list(dataset.listChildren())) == 2


def test_an_attachment_that_is_chosen_on_the_page_of_workflows_is_read_by_the_container(
    client: WebClient, lab: Lab, screenshots: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.txt"
    weights.write_text("a threshold of 7")
    with lab.connected() as connection:
        annotation = connection.createFileAnnfromLocalFile(str(weights), mimetype="text/plain")
        connection.getObject("Image", lab.data.images["nuclei 2-D"]).linkAnnotation(annotation)
    page = BiomeroPage(client.page, lab)
    page.open_workflow("Obedient")
    page.choose_input("biomeroworker demo", "nuclei")
    page.choose_file(weights.name)
    client.page.screenshot(path=screenshots / "biomero-file.png")
    for _step in ("options of the input", "parameters", "results"):
        page.next()
    client.page.screenshot(path=screenshots / "biomero-file-results.png")
    page.run()

    client.show_activities()
    row = client.activity("obedient")
    client.wait_for_end(row)
    client.page.screenshot(path=screenshots / "biomero-file-activities.png")
    expect(row.locator(".activities_state img")).to_have_attribute("alt", "Success")
    with lab.connected() as connection:
        dataset = connection.getObject("Dataset", lab.data.dataset)
        (made,) = [one for one in dataset.listAnnotations() if one.getFileName() == "model.txt"]
        assert b"".join(made.getFileInChunks()) == b"a threshold of 7"


def test_the_page_of_settings_reads_and_writes_the_ini_file(page: Page, lab: Lab, screenshots: Path) -> None:
    ini = Path(lab.env["BIOMERO_CONFIG"])
    before = ini.read_text()
    WebClient(page, lab, "root", lab.root_password)
    BiomeroPage(page, lab)
    page.get_by_role("tab", name="Admin").click()
    page.get_by_text("Slurm Settings").click()
    page.get_by_text("Paths", exact=True).click()
    images = _value(before, "slurm_images_path")
    field = page.locator(f"input[value='{images}']")
    field.wait_for()
    page.screenshot(path=screenshots / "biomero-settings.png")
    try:
        field.locator("xpath=..").get_by_text("edit").click()
        page.locator(f"input[value='{images}']:not([readonly])").fill(f"{images}/changed")
        with page.expect_response(lambda response: response.request.method == "POST") as answer:
            page.get_by_role("button", name="Save Settings").click()
        assert answer.value.status == 200, answer.value.text()
        assert _value(ini.read_text(), "slurm_images_path") == f"{images}/changed"
        assert _value(ini.read_text(), "sbatch_mem") == _value(before, "sbatch_mem")
    finally:
        ini.write_text(before)


def _value(ini: str, key: str) -> str:
    """A value of the section ``[SLURM]``."""
    parser = configparser.ConfigParser(interpolation=None, allow_no_value=True)
    parser.read_string(ini)
    return parser["SLURM"][key]
