"""Python code in processes of its own that need not import torch first: forks of one that has, and waits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Reads a line of JSON for each piece of code, runs it in a fork as ``python -c`` would, and prints its status.
SERVER = """
import json, os, sys, traceback
import torch, torch_geometric.nn, torch_geometric.transforms
import pyg_schnet

def status_of(code):
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, name in enumerate((os.devnull, given["out"], given["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        os.chdir(given["cwd"])
        sys.argv = ["-c"]
        status = status_of(given["code"])
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """A process that has imported PyG and this package, but none of its extras, and forks itself.

    Args:
        folder: Where it may write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        words = [sys.executable, "-c", SERVER]
        self.server: Any = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, code: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """What a piece of code prints in a process of its own, and how that ends."""
        self.number += 1
        out, err = (self.folder / f"{self.number}.{name}" for name in ("out", "err"))
        given = {"code": code, "cwd": str(cwd or self.folder), "out": str(out), "err": str(err)}
        self.server.stdin.write(json.dumps(given) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(["fork"], status, out.read_text(), err.read_text())

    def close(self) -> None:
        """End the process."""
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
