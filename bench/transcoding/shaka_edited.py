"""Runs Shaka Streamer with other settings of x264: `python shaka_edited.py PRESET X264_PARAMS PROGRAM ARGUMENTS…`.

It runs in Shaka Streamer's environment, and by its path: nothing of this repository is there.
"""

import runpy
import subprocess
import sys
from typing import Any

from streamer import node_base  # type: ignore[import-not-found]


def main() -> None:
    preset, params, program, *arguments = sys.argv[1:]
    start = node_base.NodeBase._create_process

    def edited(self: Any, args: list[str], *more: Any, **named: Any) -> "subprocess.Popen[bytes]":
        command: list[str] = []
        for before, arg in zip(["", *args], args, strict=False):
            command += [preset, "-x264-params", params] if before == "-preset" else [arg]
        process: subprocess.Popen[bytes] = start(self, command, *more, **named)
        return process

    node_base.NodeBase._create_process = edited
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
