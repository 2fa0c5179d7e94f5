import json
import socket
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from millrace import (
    AlreadyUploading,
    Client,
    FileUnusable,
    LimitReached,
    Media,
    MediaFailed,
    MillraceError,
    NetworkError,
    NotAuthenticated,
    NotFound,
    QuotaExceeded,
    Refused,
    ServiceFault,
    StateUnusable,
    StorageRefused,
    UnexpectedAnswer,
    cli,
)
from millrace.parts import Source
from millrace.report import word_for
from millrace.state import state_file
from tests.unit.client.fakes import HASTY, MEDIA_ID, FakeService, media_json, problem


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """What the command talks to."""
    fake = FakeService()
    monkeypatch.setattr(cli, "Client", lambda url, token: fake.client())
    return fake


@pytest.fixture(autouse=True)
def state_dir(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command remembers unfinished uploads: not where the developer's own does."""
    folder = tmp_path_factory.mktemp("home") / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.delenv("MILLRACE_STATE_DIR", raising=False)
    return folder / "millrace"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    return path


def run(*arguments: str, url: str = "https://gateway.test") -> Result:
    return CliRunner().invoke(cli.app, [*arguments, "--url", url, "--token", "secret"], env={"COLUMNS": "200"})


def test_uploads_and_says_where_the_media_is(service: FakeService, clip: Path) -> None:
    result = run("upload", str(clip))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"clip.mp4  processing  {MEDIA_ID}"
    assert "https://gateway.test/watch/1" in result.stdout
    assert "clip.mp4: sent 10 bytes of 10 bytes" in result.stderr
    assert b"".join(content for _, content in sorted(service.stored.items())) == b"0123456789"


def test_waits_until_published_when_asked(service: FakeService, clip: Path) -> None:
    service.statuses = [media_json(progress=0.5), media_json("published")]
    result = run("upload", "--wait", str(clip))
    assert result.exit_code == 0
    assert "https://edge.test/main.m3u8" in result.stdout
    assert "clip.mp4: processing 50%" in result.stderr
    assert result.stderr.splitlines()[-1] == "clip.mp4: published"


def test_json_has_one_object_a_file_and_nothing_else_on_standard_output(service: FakeService, clip: Path) -> None:
    result = run("upload", "--json", str(clip), str(clip.with_name("missing.mp4")))
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["ok"], first["media"]["media_id"]) == (True, MEDIA_ID)
    assert (second["ok"], second["error"]["kind"]) == (False, "file")
    assert result.exit_code == cli.USAGE


@pytest.mark.parametrize(("name", "words"), [("", "holds no images or videos"), ("x.mp4", "no such file or directory")])
def test_a_file_that_cannot_be_used_is_named_once(service: FakeService, tmp_path: Path, name: str, words: str) -> None:
    result = run("upload", str(tmp_path / name))
    assert (result.exit_code, service.requests) == (cli.USAGE, [])
    assert result.stderr.splitlines()[-1] == f"millrace: {tmp_path / name}: {words}"


def test_a_folder_is_uploaded_with_all_below_it_and_what_was_passed_over_is_counted(
    service: FakeService, tmp_path: Path
) -> None:
    for name in ("b.jpg", "sub/a.png", "notes.txt", ".c.jpg", "d.gif"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    result = run("upload", "--json", "--exclude", "*.gif", str(tmp_path))
    assert result.exit_code == 0
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [
        str(tmp_path / "b.jpg"),
        str(tmp_path / "sub" / "a.png"),
    ]
    assert "millrace: skipped 1 hidden, 1 excluded, 1 of other types\n" in result.stderr


def test_what_was_interrupted_goes_on_from_the_state_directory(
    service: FakeService, clip: Path, state_dir: Path
) -> None:
    service.statuses = None
    service.faults["PUT 3"] = [httpx.ConnectError("no route")] * HASTY.attempts
    assert run("upload", str(clip)).exit_code == cli.NETWORK
    assert len([*state_dir.glob("*.json")]) == 1
    assert run("upload", str(clip)).exit_code == 0
    assert (len(service.uploads), max(service.uploads[MEDIA_ID].puts.values())) == (1, 1)
    assert [*state_dir.iterdir()] == []


def test_no_state_remembers_nothing(service: FakeService, clip: Path, state_dir: Path) -> None:
    service.faults["PUT 3"] = [httpx.ConnectError("no route")] * HASTY.attempts
    assert run("upload", "--no-state", str(clip)).exit_code == cli.NETWORK
    assert not state_dir.exists()


def test_a_file_that_another_process_uploads_has_a_code_of_its_own(
    service: FakeService, clip: Path, state_dir: Path
) -> None:
    with state_file(state_dir, "https://gateway.test", Source.of(clip)):
        result = run("upload", "--json", str(clip))
    assert result.exit_code == cli.BUSY
    assert json.loads(result.stdout)["error"]["kind"] == "busy"


def test_a_state_directory_that_cannot_be_used_is_explained(service: FakeService, clip: Path) -> None:
    result = run("upload", "--state-dir", str(clip / "state"), str(clip))
    assert result.exit_code == cli.USAGE
    assert "not a directory (see --state-dir and --no-state)" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(("checksum", "algorithm"), [("crc32c", "CRC32C"), ("sha256", "SHA256"), ("none", None)])
def test_the_checksum_is_chosen(service: FakeService, clip: Path, checksum: str, algorithm: str | None) -> None:
    assert run("upload", "--checksum", checksum, str(clip)).exit_code == 0
    assert service.asked("/initiate-upload")[0].get("checksum_algorithm") == algorithm


def test_a_media_that_fails_ends_with_its_reason_in_one_line(service: FakeService, clip: Path) -> None:
    service.statuses = [media_json("failed")]
    result = run("upload", "--wait", str(clip))
    assert result.exit_code == cli.MEDIA_FAILED
    assert result.stderr.splitlines()[-1] == "millrace: clip.mp4: failed: This is no video. (unsupported_format)"


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (401, 3, "not authenticated: in words (set MILLRACE_TOKEN, --token or --token-file) [trace abc]"),
        (404, 4, "refused: in words [trace abc]"),
        (422, 4, "refused: in words /size_bytes: too much. [trace abc]"),
        (500, 6, "the service does not work: in words (HTTP 500) [trace abc]"),
    ],
)
def test_a_problem_is_one_line_and_a_code(service: FakeService, status: int, code: int, line: str) -> None:
    fields = {"errors": [{"pointer": "/size_bytes", "message": "too much"}]} if status == 422 else {}
    service.faults["GET /v1/media/ID"] = [problem(status, "kind", trace_id="abc", **fields)]
    result = run("status", MEDIA_ID)
    assert (result.exit_code, result.stderr) == (code, f"millrace: {line}\n")
    assert result.stdout == ""


def test_watch_ends_with_the_media(service: FakeService) -> None:
    service.statuses = [media_json(), media_json(progress=0.4), media_json("published")]
    result = run("watch", MEDIA_ID)
    assert result.exit_code == 0
    assert result.stdout.startswith("clip.mp4  published")


def test_status_shows_a_failed_media_and_is_content(service: FakeService) -> None:
    service.statuses = [media_json("failed", filename="a\x1b[31m.mp4")]
    result = run("status", MEDIA_ID)
    assert result.exit_code == 0
    assert "This is no video. (unsupported_format)" in result.stdout
    assert "\x1b" not in result.stdout


def test_list_stops_at_its_limit(service: FakeService) -> None:
    page = {"media": [media_json(), media_json("published"), media_json()], "next_page_token": "more"}
    service.faults["GET /v1/media"] = [httpx.Response(200, json=page)]
    result = run("list", "--limit", "2")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "published" in result.stdout


def test_a_server_that_is_not_there_is_a_network_error_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = run("status", MEDIA_ID, url=f"http://127.0.0.1:{port}")
    assert result.exit_code == cli.NETWORK
    assert result.stderr.startswith(f"millrace: http://127.0.0.1:{port} cannot be reached")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["upload"], ["upload", "--parallel", "0", "x.mp4"], ["list", "--status", "lost"], ["nonsense"]],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == cli.USAGE


@pytest.mark.parametrize("url", ["gateway.test", "ftp://gateway.test", "http://", "http://[::1"])
def test_a_url_that_is_none_is_2(url: str) -> None:
    assert run("list", url=url).exit_code == cli.USAGE


@pytest.mark.parametrize("token", ["two words", "Größe", "a\nb"])
def test_a_token_that_is_none_is_2(token: str) -> None:
    assert (
        CliRunner().invoke(cli.app, ["list", "--url", "https://gateway.test", "--token", token]).exit_code == cli.USAGE
    )


def test_the_token_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokens: list[str] = []

    def client(url: str, token: str) -> Client:
        tokens.append(token)
        return FakeService().client()

    monkeypatch.setattr(cli, "Client", client)
    file = tmp_path / "token"
    file.write_text("from-file\n")
    environment = {"MILLRACE_URL": "https://gateway.test", "MILLRACE_TOKEN_FILE": str(file)}
    assert CliRunner().invoke(cli.app, ["status", MEDIA_ID], env=environment).exit_code == 0
    assert tokens == ["from-file"]
    file.unlink()
    assert CliRunner().invoke(cli.app, ["status", MEDIA_ID], env=environment).exit_code == cli.USAGE


def test_a_defect_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "Client", lambda url, token: 1 / 0)
    result = run("list")
    assert result.exit_code == cli.DEFECT
    assert len(result.stderr.splitlines()) == 1


def test_every_error_has_its_code() -> None:
    expected: dict[type[MillraceError], tuple[MillraceError, int]] = {
        FileUnusable: (FileUnusable("x"), 2),
        NotAuthenticated: (NotAuthenticated(type="t", title="t", status=401), 3),
        Refused: (Refused(type="t", title="t", status=400), 4),
        NotFound: (NotFound(type="t", title="t", status=404), 4),
        QuotaExceeded: (QuotaExceeded(type="t", title="t", status=413), 8),
        LimitReached: (LimitReached(type="t", title="t", status=429), 8),
        AlreadyUploading: (AlreadyUploading("x"), 7),
        StateUnusable: (StateUnusable("x"), 2),
        StorageRefused: (StorageRefused("x", status=400, code=""), 4),
        MediaFailed: (MediaFailed(Media.from_json(media_json("failed"))), 5),
        NetworkError: (NetworkError("x"), 6),
        ServiceFault: (ServiceFault(type="t", title="t", status=500), 6),
        UnexpectedAnswer: (UnexpectedAnswer("x"), 6),
    }
    assert set(expected) == set(leaves(MillraceError))
    for error, code in expected.values():
        assert cli.code_for(error) == code
        assert word_for(error) != "error"


def leaves(kind: type[MillraceError]) -> list[type[MillraceError]]:
    """Every class below that is raised itself: all but the two bases."""
    below = [found for child in kind.__subclasses__() for found in leaves(child)]
    return below if kind.__name__ in {"MillraceError", "ProblemError"} else [kind, *below]
