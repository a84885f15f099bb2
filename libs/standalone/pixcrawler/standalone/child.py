"""Becomes another program, which then ends when its parent does.

Run as a script, ``python -I -S child.py PARENT_PID SIGNAL UID GID -- PROGRAM ARGUMENT…``, so that
no code of ours runs between fork and exec. The kernel clears the parent-death signal when a process
changes its user, hence the order: first the user, then the signal, then the program, which keeps
the process id. UID and GID are -1 for "as it is". Only the standard library, and little of it:
this runs before every child.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CANNOT_EXECUTE = 126  # the shell's exit code for it


def main(arguments: list[str]) -> int:
    """Change user, tie the process to its parent, and execute; returns only on failure."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    program = arguments[5:]
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        if sys.platform == "linux" and death_signal > 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:
                return 0  # the parent died before the signal was set
        os.execv(program[0], program)  # noqa: S606 - becoming another program is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot execute {program[0]}: {error.strerror}\n")
        return _CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
