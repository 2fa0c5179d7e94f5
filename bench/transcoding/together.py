"""Several programs at once as one that can be measured: `python -m bench.transcoding.together COMMANDS_AS_JSON`."""

import json
import subprocess
import sys
from collections.abc import Sequence


def command(commands: Sequence[Sequence[str]]) -> Sequence[str]:
    """The command line that runs them all to their ends."""
    return [sys.executable, "-m", "bench.transcoding.together", json.dumps(commands)]


def main() -> int:
    """The first exit code that is not 0, when all have ended."""
    running = [subprocess.Popen(command) for command in json.loads(sys.argv[1])]
    return next((code for code in [process.wait() for process in running] if code), 0)


if __name__ == "__main__":
    sys.exit(main())
