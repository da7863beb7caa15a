"""The pages of the plugin OMERO.biomero."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.lab import Lab


class BiomeroPage:
    """The page *BIOMERO › Analyze* of a user who is logged in."""

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page = page
        page.goto(f"{lab.url}/omero_biomero/biomero/")
        page.get_by_text("Online").wait_for()

    def open_workflow(self, title: str) -> None:
        """Open the window of a workflow."""
        self.page.get_by_text(title, exact=True).first.click()

    def choose_input(self, project: str, dataset: str) -> None:
        """Select a dataset as input, and continue."""
        self.page.get_by_role("button", name="Select Datasets or Plates").click()
        nodes = self.page.locator(".bp5-popover .bp5-tree-node-content")
        nodes.filter(has_text=project).last.locator(".bp5-tree-node-caret").click()
        nodes.filter(has_text=dataset).first.locator(".bp5-tree-node-label").click()
        self.page.locator(".bp5-popover button.bp5-intent-primary").click()
        expect(self.page.locator(".bp5-dialog .bp5-tag", has_text=dataset).first).to_be_visible()
        self.next()

    def choose_file(self, name: str) -> None:
        """Select an attachment of an input image as the value of the workflow's file parameter."""
        window = self.page.locator(".bp5-dialog")
        window.get_by_text(name, exact=True).click()
        expect(window.locator(".bp5-tag", has_text=name)).to_be_visible()

    def next(self) -> None:
        """Continue with the next step of the window."""
        self.page.locator(".bp5-dialog").get_by_role("button", name="Next").click()

    def switch(self, label: str) -> None:
        """Turn a switch on or off."""
        self.page.locator(".bp5-dialog label", has_text=label).click()

    def choose_new_dataset(self, name: str) -> None:
        """Import result images into a new dataset instead of the selected one."""
        field = self.page.locator(".bp5-dialog .bp5-tag-input").first
        field.locator(".bp5-tag-remove").click()
        field.locator("input").fill(name)
        field.locator("input").press("Enter")
        expect(field.locator(".bp5-tag", has_text=name)).to_be_visible()

    def run(self) -> None:
        """Start the run, and wait until the server has accepted the script."""
        with self.page.expect_response(lambda response: response.request.method == "POST") as answer:
            self.page.locator(".bp5-dialog").get_by_role("button", name="Run", exact=True).click()
        assert answer.value.status == 200, answer.value.text()
