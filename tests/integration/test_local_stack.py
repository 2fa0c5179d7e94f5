"""The embedded stack on real servers: every part does its work, and nothing is left behind."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import httpx
import jwt
import nats
import psutil
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deploy.local import errors
from deploy.local.home import CHECKOUT, MARKER
from deploy.local.stack import Stack
from deploy.local.supervisor import marked_processes
from deploy.provision import STALE_UPLOAD_DAYS, ProvisionSettings, provision

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVERS = {"seaweedfs", "postgres", "nats", "traces", "edge"}
IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Deeper than a unix socket's path may be, with a character that configuration files like to interpret.
    directory = tmp_path_factory.mktemp("stack") / ("deep-" * 12) / "100% local"
    with Stack(directory, services=()) as running:
        yield running


@pytest.fixture(scope="module")
def s3(stack: Stack) -> Iterator["S3Client"]:
    client = _s3(stack)
    yield client
    client.close()


@pytest.fixture
def edge(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.settings["MILLRACE_EDGE_URL"], trust_env=False) as client:
        yield client


def _s3(stack: Stack) -> "S3Client":
    values = stack.settings
    return boto3.client(
        "s3",
        endpoint_url=values["MILLRACE_S3_ENDPOINT_URL"],
        region_name=values["MILLRACE_S3_REGION"],
        aws_access_key_id=values["MILLRACE_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=values["MILLRACE_S3_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def _put(s3: "S3Client", key: str, body: bytes = b"segment", content_type: str = "video/mp4") -> None:
    s3.put_object(Bucket="delivery", Key=key, Body=body, ContentType=content_type, CacheControl=IMMUTABLE)


def _eventually(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class TestEdge:
    def test_a_cold_object_is_fetched_once_and_then_served_from_the_cache(
        self, s3: "S3Client", edge: httpx.Client
    ) -> None:
        _put(s3, "0ab/media/1/token/1080p/a1/seg-1.m4s")
        cold = edge.get("/0ab/media/1/token/1080p/a1/seg-1.m4s")
        warm = edge.get("/0ab/media/1/token/1080p/a1/seg-1.m4s")
        assert (cold.status_code, cold.content, cold.headers["x-cache"]) == (200, b"segment", "MISS")
        assert (warm.status_code, warm.content, warm.headers["x-cache"]) == (200, b"segment", "HIT")
        assert warm.headers["cache-control"] == IMMUTABLE
        assert warm.headers["content-type"] == "video/mp4"
        assert warm.headers["etag"]

    def test_an_object_written_after_a_404_is_visible_at_once(self, s3: "S3Client", edge: httpx.Client) -> None:
        missing = edge.get("/late/object")
        assert missing.status_code == 404
        assert missing.headers["cache-control"] == "no-store"
        assert b"Code" not in missing.content, "the origin's words stay behind the edge"
        _put(s3, "late/object")
        assert edge.get("/late/object").status_code == 200

    @pytest.mark.parametrize(
        "path",
        ["/", "/0ab", "/0ab/", "/listed/", "//", "/%2e%2e/originals/secret", "/../originals/secret", "/listed%2f",
         "/originals/secret", "/listed/object%3facl", "/listed/object%0d%0aX:y"],
    )  # fmt: skip
    def test_listings_and_other_buckets_are_not_found(self, s3: "S3Client", edge: httpx.Client, path: str) -> None:
        _put(s3, "listed/object")
        s3.put_object(Bucket="originals", Key="secret", Body=b"original")
        refused = edge.get(path)
        assert (refused.status_code, refused.text) in ((404, "not found\n"), (400, "bad request\n"))

    @pytest.mark.parametrize("query", ["acl", "list-type=2", "versions", "uploads", "tagging", "location"])
    def test_query_strings_do_not_reach_the_origin(self, s3: "S3Client", edge: httpx.Client, query: str) -> None:
        _put(s3, "queried/object")
        assert edge.get(f"/queried/object?{query}").content == b"segment"
        assert edge.get(f"/?{query}").status_code == 404
        again = edge.get(f"/queried/object?{query}&other")
        assert again.headers["x-cache"] == "HIT", "a query string makes no second copy"

    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
    def test_nothing_is_written_through_the_edge(self, s3: "S3Client", edge: httpx.Client, method: str) -> None:
        _put(s3, "kept/object")
        refused = edge.request(method, "/kept/object")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert edge.get("/kept/object").status_code == 200

    def test_ranges_are_cut_from_the_whole_cached_object(self, s3: "S3Client", edge: httpx.Client) -> None:
        body = bytes(range(256)) * 4096
        _put(s3, "ranged/object", body)
        first = edge.get("/ranged/object", headers={"Range": "bytes=10-19"})
        assert (first.status_code, first.content, first.headers["x-cache"]) == (206, body[10:20], "MISS")
        assert first.headers["content-range"] == f"bytes 10-19/{len(body)}"
        tail = edge.get("/ranged/object", headers={"Range": "bytes=-5"})
        assert (tail.status_code, tail.content, tail.headers["x-cache"]) == (206, body[-5:], "HIT")
        whole = edge.get("/ranged/object")
        assert (whole.content, whole.headers["x-cache"]) == (body, "HIT")
        assert edge.get("/ranged/object", headers={"Range": f"bytes={len(body)}-"}).status_code == 416

    def test_players_of_any_site_may_read(self, s3: "S3Client", edge: httpx.Client) -> None:
        _put(s3, "shared/object")
        for origin in ("https://one.example", "https://two.example"):
            answer = edge.get("/shared/object", headers={"Origin": origin})
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
            assert "Content-Range" in answer.headers["access-control-expose-headers"]
        assert answer.headers["x-cache"] == "HIT", "one copy for all origins"
        asked = edge.options(
            "/shared/object",
            headers={"Origin": "https://one.example", "Access-Control-Request-Method": "GET"},
        )
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-headers"] == "Range, traceparent, tracestate"

    def test_playlists_are_compressed_and_segments_are_not(self, s3: "S3Client", edge: httpx.Client) -> None:
        text = b"#EXTM3U\n" + b"#EXTINF:4.0,\nsegment.m4s\n" * 100
        _put(s3, "gzip/main.m3u8", text, "application/vnd.apple.mpegurl")
        _put(s3, "gzip/seg.m4s", text)
        playlist = edge.get("/gzip/main.m3u8", headers={"Accept-Encoding": "gzip"})
        assert (playlist.headers["content-encoding"], playlist.content) == ("gzip", text)
        assert "content-encoding" not in edge.get("/gzip/seg.m4s", headers={"Accept-Encoding": "gzip"}).headers

    def test_the_origin_is_not_recognisable(self, s3: "S3Client", edge: httpx.Client) -> None:
        _put(s3, "plain/object")
        for path in ("/plain/object", "/plain/missing", "/"):
            names = {name for name in edge.get(path).headers if name.startswith(("x-amz", "seaweed"))}
            assert not names
            assert edge.get(path).headers["server"] == "nginx"

    def test_a_hundred_at_once_cost_the_origin_one_request(
        self, stack: Stack, s3: "S3Client", edge: httpx.Client
    ) -> None:
        _put(s3, "popular/object", os.urandom(4 * 2**20))

        async def ask() -> list[str]:
            limits = httpx.Limits(max_connections=100)
            base_url = stack.settings["MILLRACE_EDGE_URL"]
            async with httpx.AsyncClient(base_url=base_url, limits=limits, trust_env=False, timeout=60) as client:
                answers = await asyncio.gather(*(client.get("/popular/object") for _ in range(100)))
            assert {(one.status_code, len(one.content)) for one in answers} == {(200, 4 * 2**20)}
            return [one.headers["x-cache"] for one in answers]

        assert asyncio.run(ask()).count("MISS") == 1

    def test_only_the_edge_reads_the_delivery_bucket(self, stack: Stack, s3: "S3Client") -> None:
        _put(s3, "guarded/object")
        s3.put_object(Bucket="originals", Key="guarded", Body=b"original")
        endpoint = stack.settings["MILLRACE_S3_ENDPOINT_URL"]
        secret = {"Referer": stack.settings["MILLRACE_EDGE_ORIGIN_SECRET"]}
        with httpx.Client(base_url=endpoint, trust_env=False) as anybody:
            assert anybody.get("/delivery/guarded/object").status_code == 403
            assert anybody.get("/delivery/guarded/object", headers={"Referer": "guess"}).status_code == 403
            assert anybody.get("/delivery/guarded/object", headers=secret).status_code == 200
            assert anybody.get("/originals/guarded", headers=secret).status_code == 403
            assert anybody.get("/delivery?list-type=2", headers=secret).status_code == 403
            assert anybody.put("/delivery/mine", content=b"x", headers=secret).status_code == 403

    def test_a_refusal_of_the_origin_is_not_found_and_not_kept(
        self, stack: Stack, s3: "S3Client", edge: httpx.Client
    ) -> None:
        _put(s3, "refused/object")
        s3.delete_bucket_policy(Bucket="delivery")
        try:
            origin = f"{stack.settings['MILLRACE_S3_ENDPOINT_URL']}/delivery/refused/object"
            secret = {"Referer": stack.settings["MILLRACE_EDGE_ORIGIN_SECRET"]}
            _eventually(lambda: httpx.get(origin, headers=secret, trust_env=False).status_code == 403)
            refused = edge.get("/refused/object")
            assert (refused.status_code, refused.text) == (404, "not found\n")
        finally:
            provision(_provision_settings(stack.settings))
        _eventually(lambda: edge.get("/refused/object").status_code == 200)


class TestObjectStorage:
    def test_a_browser_may_put_to_a_presigned_url_and_read_the_etag(self, stack: Stack, s3: "S3Client") -> None:
        url = s3.generate_presigned_url("put_object", Params={"Bucket": "originals", "Key": "from-a-browser"})
        page = {"Origin": "http://127.0.0.1:5173"}
        with httpx.Client(trust_env=False) as browser:
            asked = browser.options(
                url,
                headers=page
                | {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"},
            )
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-methods"] == "PUT, POST"
            done = browser.put(url, content=b"bytes", headers=page)
        assert done.status_code == 200
        assert done.headers["etag"]
        assert {"ETag", "Location"} <= set(done.headers["access-control-expose-headers"].split(", "))

    def test_a_wrong_secret_is_refused(self, stack: Stack) -> None:
        values = stack.settings | {"MILLRACE_S3_SECRET_ACCESS_KEY": "wrong"}
        with pytest.raises(ClientError, match="403"):
            provision(_provision_settings(values))

    def test_forgotten_uploads_are_aborted(self, s3: "S3Client") -> None:
        rules = s3.get_bucket_lifecycle_configuration(Bucket="originals")["Rules"]
        assert [rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in rules] == [STALE_UPLOAD_DAYS]


class TestOtherParts:
    def test_the_database_answers_and_is_safe_against_power_cuts(self, stack: Stack) -> None:
        with psycopg.connect(stack.settings["MILLRACE_DATABASE_URL"]) as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                assert connection.execute(f"SHOW {name}").fetchone() == ("on",)

    def test_the_database_wants_the_password(self, stack: Stack) -> None:
        user, _, place = stack.settings["MILLRACE_DATABASE_URL"].partition("@")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{user}x@{place}")

    async def test_the_broker_keeps_messages_and_wants_the_password(self, stack: Stack) -> None:
        url = stack.settings["MILLRACE_NATS_URL"]
        connection = await nats.connect(url)
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="TRIAL", subjects=["trial.>"])
        await jetstream.publish("trial.one", b"kept", timeout=5)
        assert (await jetstream.get_last_msg("TRIAL", "trial.one")).data == b"kept"
        await jetstream.delete_stream("TRIAL")
        await connection.close()

        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        await reader.readline()  # the server's INFO
        writer.write(b'CONNECT {"user":"millrace","pass":"guess"}\r\nPING\r\n')
        assert b"Authorization Violation" in await asyncio.wait_for(reader.readline(), timeout=5)
        writer.close()
        await writer.wait_closed()

    def test_tokens_are_signed_by_the_key_of_this_stack(self, stack: Stack) -> None:
        values = stack.settings
        key = Path(values["MILLRACE_JWT_PUBLIC_KEY_FILE"])
        private_key = key.with_name("jwt-private.pem")
        assert private_key.stat().st_mode & 0o777 == 0o600
        claims = jwt.decode(
            stack.token("somebody"),
            key.read_text(),
            algorithms=["ES256"],
            issuer=values["MILLRACE_JWT_ISSUER"],
            audience=values["MILLRACE_JWT_AUDIENCE"],
            options={"require": ["sub", "iss", "aud", "iat", "exp"]},
        )
        assert claims["sub"] == "somebody"
        assert claims["exp"] - claims["iat"] == 12 * 3600

    def test_settings_are_written_for_the_owner_alone(self, stack: Stack) -> None:
        folder = stack.directory
        for name in ("env", "token", "ledger.json", "run/supervisord.conf", "run/s3.json", "run/nats.conf"):
            assert (folder / name).stat().st_mode & 0o077 == 0
        lines = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
        assert lines == stack.settings

    def test_a_server_of_the_users_that_does_not_answer_is_named(self, tmp_path: Path) -> None:
        nowhere = {"MILLRACE_NATS_URL": "nats://127.0.0.1:9", "MILLRACE_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
        with pytest.raises(errors.StackError, match=r"named by MILLRACE_S3_ENDPOINT_URL, MILLRACE_NATS_URL"):
            Stack(tmp_path, services=(), overrides=nowhere).__enter__()
        assert marked_processes(tmp_path) == []


class TestCommand:
    def test_it_shows_what_runs(self, stack: Stack) -> None:
        status = _command("status", stack)
        assert status.returncode == 0
        assert {line.split()[0] for line in status.stdout.splitlines()} == SERVERS
        assert status.stdout.count("ready") == len(SERVERS)

    def test_it_prints_settings_tokens_and_logs(self, stack: Stack) -> None:
        settings = dict(line.split("=", 1) for line in _command("env", stack).stdout.splitlines())
        assert settings == stack.settings
        token = _command("token", stack, "somebody").stdout.strip()
        assert jwt.decode(token, options={"verify_signature": False})["sub"] == "somebody"
        assert "database system is ready" in _command("logs", stack, "postgres").stdout
        assert "nats | " in _command("logs", stack).stdout

    def test_a_stack_that_is_down_is_said_to_be_down(self, tmp_path: Path) -> None:
        status = _command("status", Stack(tmp_path, services=()))
        assert (status.returncode, status.stdout, status.stderr) == (1, "", "the stack is not up\n")


def _command(name: str, stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", name, *arguments, "--dir", str(stack.directory)],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class TestLife:
    def test_everything_is_ready_quickly_and_all_on_the_loopback(self, tmp_path: Path) -> None:
        began = time.monotonic()
        with Stack(tmp_path, services=()) as stack:
            assert time.monotonic() - began < 15
            assert {state.name for state in stack.states()} == SERVERS
            addresses = {
                connection.laddr.ip
                for process in marked_processes(tmp_path)
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}

    def test_up_again_changes_nothing(self, stack: Stack) -> None:
        before, settings = {name: stack.pid(name) for name in SERVERS}, stack.settings
        stack.up()
        assert {name: stack.pid(name) for name in SERVERS} == before
        assert stack.settings == settings

    @pytest.mark.parametrize("name", sorted(SERVERS))
    def test_a_killed_part_comes_back(self, stack: Stack, name: str) -> None:
        before = stack.pid(name)
        stack.kill(name)

        def has_another_process() -> bool:
            with contextlib.suppress(errors.NotRunningError):
                return stack.pid(name) != before
            return False

        _eventually(has_another_process)
        stack.wait_ready(name)

    def test_one_part_is_stopped_and_started(self, stack: Stack) -> None:
        stack.stop("nats")
        with pytest.raises(errors.NotRunningError):
            stack.pid("nats")
        stack.start("nats")
        assert stack.pid("nats")

    def test_down_leaves_no_process_and_up_keeps_the_data(self, tmp_path: Path) -> None:
        with Stack(tmp_path, services=()) as first:
            settings = first.settings
            client = _s3(first)
            _put(client, "kept/object", b"still here")
            client.close()
            with psycopg.connect(settings["MILLRACE_DATABASE_URL"]) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 'still here' AS words")
        assert marked_processes(tmp_path) == []
        with pytest.raises(errors.NotRunningError):
            first.states()
        with Stack(tmp_path, services=()) as second:
            assert second.settings == settings
            edge_url = settings["MILLRACE_EDGE_URL"]
            assert httpx.get(f"{edge_url}/kept/object", trust_env=False).text == "still here"
            with psycopg.connect(settings["MILLRACE_DATABASE_URL"]) as connection:
                assert connection.execute("SELECT words FROM kept").fetchone() == ("still here",)

    def test_down_finds_everything_after_the_folder_was_removed(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path / "removed", services=())
        stack.up()
        shutil.rmtree(stack.directory, ignore_errors=True)
        stack.down()
        assert marked_processes(stack.directory) == []

    def test_down_finds_everything_after_the_supervisor_was_killed(self, tmp_path: Path) -> None:
        stack = Stack(tmp_path, services=())
        stack.up()
        supervisor = int((tmp_path / "run" / "supervisord.pid").read_text())
        assert psutil.Process(supervisor).environ()[MARKER] == str(tmp_path)
        os.kill(supervisor, signal.SIGKILL)
        assert len(marked_processes(tmp_path)) >= len(SERVERS)
        stack.down()
        assert marked_processes(tmp_path) == []

    def test_ports_taken_meanwhile_are_replaced_and_the_data_stays(self, tmp_path: Path) -> None:
        with Stack(tmp_path, services=()) as first:
            before = first.settings
            client = _s3(first)
            _put(client, "kept/object", b"still here")
            client.close()
        taken = json.loads((tmp_path / "ledger.json").read_text())["ports"].values()
        with contextlib.ExitStack() as others:
            for port in taken:
                others.enter_context(socket.create_server(("127.0.0.1", port)))
            second = others.enter_context(Stack(tmp_path, services=()))
            assert all(second.settings[name] != before[name] for name in before if name.endswith("_URL"))
            edge_url = second.settings["MILLRACE_EDGE_URL"]
            assert httpx.get(f"{edge_url}/kept/object", trust_env=False).text == "still here"

    def test_the_edge_serves_what_it_has_while_the_origin_is_away(
        self, stack: Stack, s3: "S3Client", edge: httpx.Client
    ) -> None:
        _put(s3, "cached/object")
        edge.get("/cached/object")
        stack.stop("seaweedfs")
        try:
            assert edge.get("/cached/object").headers["x-cache"] == "HIT"
            away = edge.get("/other/object")
            assert (away.status_code, away.text) == (503, "origin unavailable\n")
        finally:
            stack.start("seaweedfs")
        assert edge.get("/other/object").status_code == 404

    def test_the_users_own_servers_take_the_place_of_ours(self, stack: Stack, tmp_path: Path) -> None:
        theirs = {
            name: value
            for name, value in stack.settings.items()
            if name.startswith("MILLRACE_S3_")
            or name in ("MILLRACE_DATABASE_URL", "MILLRACE_NATS_URL", "MILLRACE_OTLP_ENDPOINT", "MILLRACE_EDGE_URL")
        }
        with Stack(tmp_path, services=(), overrides=theirs) as mine:
            assert mine.states() == []
            assert {part.name for part in mine.replaced} == SERVERS
            assert mine.settings.items() >= theirs.items()


def _provision_settings(values: dict[str, str]) -> ProvisionSettings:
    fields = {name.removeprefix("MILLRACE_").lower(): value for name, value in values.items()}
    return ProvisionSettings.model_validate({k: v for k, v in fields.items() if k in ProvisionSettings.model_fields})
