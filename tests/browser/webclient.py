"""What a biologist does in OMERO.web: log in, select data, run a script, follow Activities."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import SCRIPT_FOLDER, WORKFLOW_SCRIPTS, Lab

#: Milliseconds in which a run ends, on a machine with other work. Activities are refreshed every five seconds.
RUN_TIMEOUT_MS = 180_000


class WebClient:
    """A page of OMERO.web of a user who is logged in."""

    def __init__(self, page: Page, lab: Lab, user: str = "", password: str = "") -> None:
        self.page, self.lab = page, lab
        page.goto(f"{lab.url}/webclient/login/")
        page.fill("#id_username", user or lab.user)
        page.fill("#id_password", password or lab.password)
        page.click("input[type=submit]")
        self.tree.first.wait_for()

    @property
    def tree(self) -> Locator:
        """The nodes of the tree."""
        return self.page.locator("#dataTree .jstree-anchor")

    def node(self, name: str) -> Locator:
        """The last node of the tree whose name contains ``name``."""
        return self.tree.filter(has_text=name).last

    def select_dataset(self, dataset_id: int, images: int) -> None:
        """Open the tree down to a dataset, select the dataset, and wait for the thumbnails of its images."""
        self.page.goto(f"{self.lab.url}/webclient/?show=dataset-{dataset_id}")
        self.page.locator(f"#dataTree li[data-id='{dataset_id}'] > .jstree-clicked").first.wait_for()
        thumbnails = self.page.locator("#dataIcons img")
        expect(thumbnails).to_have_count(images)
        for number in range(images):
            expect(thumbnails.nth(number)).to_have_attribute("src", re.compile("^data:image/jpeg"))

    def select_image(self, image_id: int) -> None:
        """Open the tree down to an image, select the image, and wait for its panel."""
        self.page.goto(f"{self.lab.url}/webclient/?show=image-{image_id}")
        self.page.locator("#general_tab tr", has_text="Image ID").filter(has_text=str(image_id)).wait_for()

    def open_dialog(self, script: str) -> Page:
        """Open the dialog of a script from the menu, which keeps the folder that was opened last."""
        self.page.click("#scriptButton")
        visible = self.page.locator("#scriptList a").filter(visible=True)
        entry = visible.filter(has_text=re.compile(rf"^{re.escape(script)}\.\.\.$"))
        expect(visible.first).to_be_visible()
        if not entry.count():
            visible.filter(has_text=SCRIPT_FOLDER).click()
            visible.filter(has_text=WORKFLOW_SCRIPTS).click()
        with self.page.expect_popup() as popup:
            entry.first.click()
        dialog = popup.value
        dialog.locator("#submit").wait_for()
        return dialog

    def show_activities(self) -> None:
        """Open the main page with its list of activities."""
        self.page.goto(f"{self.lab.url}/webclient/")
        self.tree.first.wait_for()
        self.page.click("#launch_activities")

    def activity(self, name: str) -> Locator:
        """The newest row of Activities with this title."""
        rows = self.page.locator("#jobsTable tr.script").filter(has=self.page.locator(".activity_title", has_text=name))
        return rows.first

    def run(self, dialog: Page, name: str) -> Locator:
        """Click *Run Script*, and wait until Activities shows the run; returns its row."""
        with dialog.expect_event("close"):
            dialog.click("#submit")
        row = self.activity(name)
        row.wait_for()
        return row

    def wait_for_end(self, row: Locator) -> str:
        """Wait until a run has ended; returns its message."""
        row.locator(".activities_state img:not([alt='Running Script'])").wait_for(timeout=RUN_TIMEOUT_MS)
        return row.locator(".message").inner_text()

    def attachments(self) -> Locator:
        """Open the list of attachments in the right panel; returns its rows, for what is selected in the tree."""
        self.page.locator("h1[data-name='attachments']").click()
        rows = self.page.locator("#fileanns_container .file_ann_wrapper")
        rows.first.wait_for()
        self.page.wait_for_function("jQuery(':animated').length === 0")
        return rows


def run_id(message: str) -> str:
    """The ID of the run in the message of a script."""
    found = re.search(r"[Rr]un ([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", message)
    assert found, message
    return found[1]
