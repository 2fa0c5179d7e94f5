"""What the corpus keeps of packages is what they ship now, under names of its own."""

from pathlib import Path

from tests.corpus.packages import kept


def test_each_content_has_a_file_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "npm"
    before, since, elsewhere = (kept(folder, "a_b_c.png", data) for data in (b"before", b"since!", b"other"))
    assert [path.read_bytes() for path in (before, since, elsewhere)] == [b"before", b"since!", b"other"]
    assert kept(folder, "a_b_c.png", b"before") == before
    assert {path.suffix for path in folder.iterdir()} == {".png"}


def test_a_file_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    path = kept(tmp_path, "a.png", b"whole")
    path.write_bytes(b"wh")
    assert kept(tmp_path, "a.png", b"whole").read_bytes() == b"whole"
