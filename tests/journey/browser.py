"""The browser that the journeys share, and the media that they send with it."""

import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses root without it
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, where there is one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("NO BROWSER WAS FOUND: nothing has shown that the pages work. Install Chromium and run again.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        await browser.close()


def padded(clip: bytes, path: Path, size_bytes: int) -> Path:
    """A playable clip of this size: a `free` box, which players pass over, fills it up with noise."""
    free_bytes = size_bytes - len(clip)
    path.write_bytes(clip + free_bytes.to_bytes(4, "big") + b"free" + random.Random(3).randbytes(free_bytes - 8))
    return path
