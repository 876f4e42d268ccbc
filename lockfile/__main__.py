"""python -m lockfile: the command, which is installed as lockfile-py, too."""

from lockfile._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
