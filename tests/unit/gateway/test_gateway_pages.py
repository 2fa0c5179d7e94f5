"""Pages that keep to the policy they are served with: own files only, nothing inline, nothing from other servers."""

import json
import re
from pathlib import Path

import pytest

from gateway.routes.pages import STATIC, WEB
from gateway.web import vendor
from tests.unit.gateway.application import client_of, parts

PAGES = sorted((WEB / "pages").glob("*.html"))
SCRIPTS = sorted([*STATIC.glob("*.js"), *STATIC.glob("uploads/*.js")])
SOURCES = [*PAGES, *sorted(STATIC.glob("*.*")), *sorted(STATIC.glob("uploads/*.*"))]
READABLE = 4.5
"""WCAG 2.2's least contrast of text (1.4.3, level AA)."""


@pytest.mark.parametrize("path", ["/", "/docs", "/upload", "/watch/anything"])
async def test_pages_are_served_with_a_strict_policy(path: str) -> None:
    async with client_of(parts()) as client:
        response = await client.get(path, headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(one.split(" ", 1) for one in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["media-src"] == "'self' blob: https://edge.example"
    assert policy["frame-ancestors"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_pages_may_send_files_to_storage_and_nowhere_else() -> None:
    async with client_of(parts(), upload_origins="https://s3.example http://127.0.0.1:9000") as client:
        response = await client.get("/")
    policy = dict(one.split(" ", 1) for one in response.headers["content-security-policy"].split("; "))
    assert policy["connect-src"] == "'self' https://edge.example https://s3.example http://127.0.0.1:9000"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_inline_and_everything_it_names_exists(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert named
    for one in named:
        assert (WEB / one.removeprefix("/")).exists()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_nothing_comes_from_other_servers(source: Path) -> None:
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", source.read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("source", SCRIPTS, ids=lambda source: source.name)
def test_scripts_write_text_never_markup(source: Path) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", source.read_text())


@pytest.mark.parametrize("source", SCRIPTS, ids=lambda source: source.name)
def test_every_imported_name_is_exported(source: Path) -> None:
    for names, path in re.findall(r'import \{([^}]+)\} from "([^"]+)"', source.read_text()):
        exporting = (source.parent / path).read_text()
        for name in names.split(","):
            assert re.search(rf"export (async )?(const|class|function\*?) {name.strip()}\b", exporting), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("ink", "ground"),
        ("ink", "surface"),
        ("muted", "ground"),
        ("muted", "surface"),
        ("muted", "sunken"),
        ("accent", "ground"),
        ("accent", "surface"),
        ("accent", "accent-ground"),
        ("accent-ink", "accent"),
        ("ink", "accent-ground"),
        ("ink", "sunken"),
        ("surface", "bad"),
        *((tone, f"{tone}-ground") for tone in ("good", "bad", "busy")),
        *(("ink", f"{tone}-ground") for tone in ("bad", "busy")),
    ],
)
def test_text_can_be_read_in_both_schemes(scheme: str, ink: str, ground: str) -> None:
    light, dark = re.findall(r":root \{([^}]+)\}", (STATIC / "millrace.css").read_text())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light + (dark if scheme == "dark" else "")))
    lower, higher = sorted(_luminance(colours[name]) for name in (ink, ground))
    assert (higher + 0.05) / (lower + 0.05) >= READABLE


def _luminance(colour: str) -> float:
    """As WCAG defines it, 0 to 1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_npm_packages_are_pinned_by_version_and_digest_and_name_no_registry() -> None:
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert wanted
    for name, version in wanted.items():
        locked = lock[f"node_modules/{name}"]
        assert locked["version"] == version
        assert locked["integrity"].startswith("sha512-")
    assert "resolved" not in (WEB / "package-lock.json").read_text()


def test_every_vendored_package_comes_with_its_licence() -> None:
    packages = {source.split("/")[0] for source in vendor.FILES}
    assert {f"{package}/LICENSE" for package in packages} <= set(vendor.FILES.values())


async def test_the_openapi_document_shows_problems_and_examples() -> None:
    async with client_of(parts()) as client:
        document = (await client.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            if path.startswith("/v1/"):
                assert "application/problem+json" in operation["responses"]["401"]["content"]
    assert not any(path.startswith(("/watch", "/docs")) for path in document["paths"])
