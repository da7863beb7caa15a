"""The browser itself: without it, no other test here shows anything."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page


@pytest.mark.parametrize("width", [480, 1280])
def test_a_page_is_laid_out_for_the_width_of_its_window(
    new_page: Callable[..., Page], screenshots: Path, width: int
) -> None:
    page = new_page(width=width, height=300)
    page.set_content("<style>@media (max-width: 600px) { b { display: none } }</style><p>narrow<b> wide</b></p>")

    page.screenshot(path=screenshots / f"chromium-{width}.png")

    assert page.locator("b").is_visible() == (width > 600)
    assert struct.unpack(">II", (screenshots / f"chromium-{width}.png").read_bytes()[16:24]) == (width, 300)
