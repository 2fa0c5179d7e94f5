"""How fast one large file goes up: `millrace upload` against `aws s3 cp` and boto3's transfer manager.

Each is a program of its own, timed from its start to its end, on the same file, one after the other in turns; ours asks
the gateway for its URLs, has the parts checked by checksum, and completes the upload with a record behind it.

Over plain HTTP the AWS tools sign the SHA-256 of every part by default, which over HTTPS they leave out. So each runs
twice: as it comes, and with that switched off, which is its best here. Ours must not be slower than the best.
"""

import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import awscli, processes
from bench.report import OUT, Figure, Ratio, Result, figure
from bench.storage import Storage
from deploy.local.stack import Stack

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to send how often."""

    rounds: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sender:
    """A program that sends the file."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


OURS = "millrace upload"
THEIRS = ("aws s3 cp", "aws s3 cp, payload unsigned", "boto3", "boto3, payload unsigned")


def measured(stack: Stack, effort: Effort) -> tuple[list[Result], dict[str, Any]]:
    """Throughput in turns, and the peak memory of each."""
    storage = Storage(stack)
    storage.empty()
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        file = _file(Path(folder), effort.size_bytes)
        senders = _senders(stack, storage, file)
        runs: dict[str, list[processes.Run]] = {sender.name: [] for sender in senders}
        for turn in range(effort.rounds):
            for sender in senders if turn % 2 == 0 else reversed(senders):
                os.sync()  # what others have written is not written back at this one's expense
                ended = processes.run(sender.command, sender.environment, OUT / "sender.log")
                runs[sender.name].append(ended)
                _say(turn, sender.name, ended, effort)
                storage.empty()
    return _results(runs, effort), {
        "throughput_cpu_s": {name: [run.cpu_seconds for run in ended] for name, ended in runs.items()}
    }


def _file(folder: Path, size_bytes: int) -> Path:
    """A file of that size that begins as an MP4 does and goes on at random, so that nothing can pack it."""
    path = folder / "footage.mp4"
    header = bytes.fromhex("0000001c66747970") + b"isom\x00\x00\x02\x00isomiso2mp41"
    block = secrets.token_bytes(_MIB)
    with path.open("wb") as file:
        file.write(header + block[len(header) :])
        for number in range(1, size_bytes // _MIB):
            # Different everywhere, at little cost: each block is the first one, turned by so much.
            file.write(block[number % _MIB :] + block[: number % _MIB])
    return path


def _senders(stack: Stack, storage: Storage, file: Path) -> list[Sender]:
    aws = awscli.install()
    common = {
        "AWS_ENDPOINT_URL": storage.endpoint_url,
        "AWS_DEFAULT_REGION": storage.region,
        "AWS_ACCESS_KEY_ID": storage.access_key_id,
        "AWS_SECRET_ACCESS_KEY": storage.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    configurations = {}
    for name, lines in (("signed", ()), ("unsigned", ("payload_signing_enabled = false",))):
        path = configurations[name] = file.parent / f"aws-{name}"
        settings = ("addressing_style = path", *lines)
        path.write_text("[default]\ns3 =\n" + "".join(f"    {line}\n" for line in settings))
    cp = (str(aws), "s3", "cp", "--only-show-errors", str(file), f"s3://{storage.bucket}/bench/aws")
    boto3 = (sys.executable, "-m", "bench.transfer", str(file), storage.bucket, "bench/boto3")
    millrace = (str(Path(sys.executable).with_name("millrace")), "upload", str(file))
    ours = {
        "MILLRACE_URL": stack.settings["MILLRACE_GATEWAY_URL"],
        "MILLRACE_TOKEN_FILE": str(stack.directory / "token"),
    }
    return [
        Sender(OURS, millrace, ours),
        Sender(THEIRS[0], cp, {**common, "AWS_CONFIG_FILE": str(configurations["signed"])}),
        Sender(THEIRS[1], cp, {**common, "AWS_CONFIG_FILE": str(configurations["unsigned"])}),
        Sender(THEIRS[2], boto3, {**common, "SIGN_PAYLOAD": "yes"}),
        Sender(THEIRS[3], boto3, {**common, "SIGN_PAYLOAD": "no"}),
    ]


def _results(runs: Mapping[str, Sequence[processes.Run]], effort: Effort) -> list[Result]:
    def rates(name: str) -> list[float]:
        return [effort.size_bytes / _MIB / run.seconds for run in runs[name]]

    size = f"{effort.size_bytes / _MIB:,.0f} MiB"
    return [
        *(Ratio(f"send {size}; {theirs}", rates(OURS), rates(theirs), "MiB/s", 1.0) for theirs in THEIRS),
        *(
            Figure(f"peak memory of {name}", median(run.peak_bytes for run in runs[name]) / _MIB, "MiB")
            for name in (OURS, *THEIRS)
        ),
    ]


def _say(turn: int, name: str, ended: processes.Run, effort: Effort) -> None:
    rate = figure(effort.size_bytes / _MIB / ended.seconds)
    peak = figure(ended.peak_bytes / _MIB)
    print(
        f"round {turn + 1}: {name}: {rate} MiB/s, {ended.cpu_seconds:.1f} CPU s, peak {peak} MiB",
        file=sys.stderr,
        flush=True,
    )
