import json
import socket
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from millrace import (
    Client,
    FileUnusable,
    LimitReached,
    Media,
    MediaFailed,
    MillraceError,
    NetworkError,
    NotAuthenticated,
    NotFound,
    Refused,
    ServiceFault,
    StorageRefused,
    UnexpectedAnswer,
    cli,
)
from tests.unit.client.fakes import MEDIA_ID, FakeService, media_json, problem


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """What the command talks to."""
    fake = FakeService()
    monkeypatch.setattr(cli, "Client", lambda url, token: fake.client())
    return fake


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


def test_a_file_that_cannot_be_used_is_named_once(service: FakeService, tmp_path: Path) -> None:
    result = run("upload", str(tmp_path))
    assert (result.exit_code, service.requests) == (cli.USAGE, [])
    assert result.stderr.splitlines()[-1] == f"millrace: {tmp_path}: is a directory"


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
        LimitReached: (LimitReached(type="t", title="t", status=429), 4),
        StorageRefused: (StorageRefused("x", status=400, code=""), 4),
        MediaFailed: (MediaFailed(Media.from_json(media_json("failed"))), 5),
        NetworkError: (NetworkError("x"), 6),
        ServiceFault: (ServiceFault(type="t", title="t", status=500), 6),
        UnexpectedAnswer: (UnexpectedAnswer("x"), 6),
    }
    assert set(expected) == set(leaves(MillraceError))
    for error, code in expected.values():
        assert cli.code_for(error) == code


def leaves(kind: type[MillraceError]) -> list[type[MillraceError]]:
    """Every class below that is raised itself: all but the two bases."""
    below = [found for child in kind.__subclasses__() for found in leaves(child)]
    return below if kind.__name__ in {"MillraceError", "ProblemError"} else [kind, *below]
