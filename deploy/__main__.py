"""`python -m deploy generate` writes what follows from code; `… check` renders and checks all."""

import sys

from deploy import checks, generate


def main() -> int:
    """Exit code 0 all right, 1 something is wrong, 2 wrong usage."""
    match sys.argv[1:]:
        case ["generate"]:
            generate.write()
            return 0
        case ["check"]:
            return checks.main()
    print(__doc__, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
