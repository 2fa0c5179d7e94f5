"""What the README tells people to type."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from tests.env import Env

pytestmark = pytest.mark.journey

README = (Path(__file__).parents[2] / "README.md").read_text()


async def test_the_python_example_runs_as_it_stands(suite: Stack, env: Env, samples: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program = example.replace("holiday.mp4", str(samples / "clip-360p.mp4")).replace("print(", "said.append(")
    names: dict[str, Any] = {"url": env["MILLRACE_GATEWAY_URL"], "token": suite.token("alice"), "said": []}
    exec(f"async def main():\n{textwrap.indent(program, '    ')}", names)
    await names["main"]()
    (playlist,) = names["said"]
    assert playlist.startswith(env["MILLRACE_EDGE_URL"])


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (Path(__file__).parents[2] / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert named <= targets, named - targets
