"""What the documents promise and a machine can check."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADR = ROOT / "docs" / "adr"


def test_every_decision_is_in_the_index() -> None:
    index = (ADR / "README.md").read_text()
    for path in sorted(ADR.glob("[0-9]*.md")):
        title = path.read_text().splitlines()[0].removeprefix(f"# {path.name[:4]} · ")
        assert f"| [{path.name[:4]}]({path.name}) | {title} | accepted |" in index


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_names_every_requirement() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [f"R{number}" for number in range(1, 21) if not re.search(rf"\| R{number} \|", readme)]
    assert not missing


def test_lock_files_name_no_registry() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "gateway" / "web" / "package-lock.json"):
        assert not re.search(r"--(extra-)?index-url|\"resolved\": *\"http", lock.read_text())
