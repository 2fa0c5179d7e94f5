import os
import subprocess
import sys

import psutil

from bench import publishing_run

PARENT = """
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"]) as child:
    pass
"""


def test_a_process_is_bound_with_those_that_it_started_before() -> None:
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        publishing_run._bind(parent.pid, [core])
        family = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children())]
        bound = [os.sched_getaffinity(pid) for pid in family]
        parent.communicate(b"\n")
    assert bound == [{core}, {core}]
