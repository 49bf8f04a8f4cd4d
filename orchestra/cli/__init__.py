"""The command line: arguments in, text or JSON out, exit status.

Owns how people and scripts see Orchestra. Everything that is decided or moved is the library's business;
a command parses, calls, and prints. Modules of commands are imported when their command runs, so that
``orchestra --help`` is quick.
"""

from orchestra.cli.main import main

__all__ = ["main"]
