"""``python -m prlib``: the command line, imported as a module, so that processes which it starts find its functions."""

import os
import signal
import sys
from io import FileIO, TextIOWrapper

from prlib import collector

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # to be interrupted in silence while the imports take seconds
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as under some daemons
            setattr(sys, name, TextIOWrapper(FileIO(os.devnull, "w"), "utf-8"))
        getattr(sys, name).reconfigure(errors="replace")  # whatever the terminal cannot show
    try:
        with collector.paused(freeze=True):
            from prlib.command_line import main
    except ValueError as error:  # what a file of the profiles says, before anything runs
        print(f"prlib: {error}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGINT, before)
    sys.exit(main())
