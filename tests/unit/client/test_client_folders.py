import os
from pathlib import Path

import pytest

from millrace.folders import find


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.mp4",
        "a.jpg",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.png",
        "sub/.git/d.jpg",
        "sub/deep/e.webm",
        "g.gif",
    ):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "tree" / "empty.mp4").touch()
    return tmp_path / "tree"


def names(found: object, tree: Path) -> list[str]:
    return [str(path.relative_to(tree)) for path in getattr(found, "sizes")]  # noqa: B009


def test_a_folder_is_all_that_it_holds_by_name(tree: Path) -> None:
    found = find([tree])
    assert names(found, tree) == ["a.jpg", "b.mp4", "g.gif", "sub/c.png", "sub/deep/e.webm"]
    assert found.sizes[tree / "sub" / "c.png"] == len("sub/c.png")
    assert found.skipped == "2 hidden, 1 of other types, 1 empty"
    assert found.unusable == {}


def test_patterns_pass_over_files_and_folders(tree: Path) -> None:
    found = find([tree], exclude=["*.gif", "deep"])
    assert names(found, tree) == ["a.jpg", "b.mp4", "sub/c.png"]
    assert found.excluded == 2


def test_what_is_named_is_taken_as_it_is_and_in_that_order(tree: Path) -> None:
    named = [tree / "notes.txt", tree / "missing.mp4", tree / ".hidden.jpg", tree / "sub", tree / "a.jpg"]
    found = find([*named, tree / "a.jpg"], exclude=["a.jpg"])
    assert names(found, tree) == [
        "notes.txt", "missing.mp4", ".hidden.jpg", "sub/c.png", "sub/deep/e.webm", "a.jpg",
    ]  # fmt: skip
    assert found.sizes[tree / "missing.mp4"] == 0


def test_a_content_type_that_is_given_takes_files_of_any_name(tree: Path) -> None:
    assert "notes.txt" in names(find([tree], any_type=True), tree)


def test_links_that_go_in_circles_end(tree: Path) -> None:
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "link.jpg").symlink_to(tree / "a.jpg")
    (tree / "broken.jpg").symlink_to(tree / "nowhere")
    os.mkfifo(tree / "pipe.mp4")
    found = find([tree])
    assert names(found, tree) == ["a.jpg", "b.mp4", "g.gif", "link.jpg", "sub/c.png", "sub/deep/e.webm"]
    assert found.other_types == 3


def test_a_folder_without_anything_to_upload_is_said_so(tmp_path: Path) -> None:
    found = find([tmp_path])
    assert str(found.unusable[tmp_path]) == f"{tmp_path}: holds no images or videos"


def test_a_folder_that_cannot_be_read_is_said_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scandir = tree / "sub", os.scandir

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root, as tests may run, can read every folder
    found = find([tree])
    assert [str(error) for error in found.unusable.values()] == [f"{closed}: permission denied"]
    assert names(found, tree) == ["a.jpg", "b.mp4", "g.gif"]
