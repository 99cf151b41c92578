"""Main program of a worker process; started by `pyrino.generate.workers`, not by users.

It runs as a script, so that neither the caller's main module is run again (as multiprocessing's spawn would, which
breaks scripts without an `if __name__ == "__main__"` guard) nor torch, which pyrino imports, is loaded.
"""

from __future__ import annotations

import os
import sys


def _main() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != folder]  # this folder's modules must not shadow others
    import types
    from multiprocessing.connection import Connection

    connection = Connection(int(sys.argv[1]))
    # Pythia and FastJet write banners and warnings to standard output: the terminal is the caller's.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.close(silence)

    sys.path[:] = connection.recv()
    package = types.ModuleType("pyrino")  # stands in for pyrino/__init__.py, which imports torch
    package.__path__ = [os.path.dirname(folder)]
    sys.modules["pyrino"] = package
    from pyrino.generate.making import make_unit

    while True:
        unit = connection.recv()
        message: tuple[str, object]
        try:
            message = ("done", make_unit(unit, lambda jets: connection.send(("jets", jets))))
        except Exception as error:  # the caller must hear of every failure
            message = ("failed", f"{type(error).__name__}: {error}")
        connection.send(message)


if __name__ == "__main__":
    try:
        _main()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the caller is done, or gone
