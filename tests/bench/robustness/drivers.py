"""Runs drivers for the kill tests: forks one per JSON line on stdin, and says when it starts and how it ended.

A fork takes milliseconds where a new process would import torch for seconds; a driver is a whole process all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import traceback


def serve() -> None:
    from hasten.bench.study import plan_study, run_study
    from hasten.methods import label_smoothing

    for line in sys.stdin:
        asked = json.loads(line)
        plan = plan_study(asked["workload"], {"base": [], "smooth": [label_smoothing(0.1)]}, **asked["plan"])
        child = os.fork()
        if child == 0:
            if asked["limit"]:  # no file larger than so many bytes, of its workers neither
                resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], asked["limit"]))
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)  # what it says is the log's
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    status = {"complete": 0, "interrupted": 130}[run_study(plan, **asked["run"]).status]
                except BaseException:
                    traceback.print_exc()
            os._exit(status)
        print(json.dumps({"pid": child}), flush=True)
        _, ended = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(ended)}), flush=True)


if __name__ == "__main__":
    serve()
