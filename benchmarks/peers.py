"""The environment that the peers live in."""

import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).with_name("peers.txt")
ENVIRONMENT = Path(__file__).parent.parent / ".venv-peers"


def pinned_versions() -> dict[str, str]:
    """The version of each distribution that is pinned."""
    lines = [line for line in PINS.read_text().splitlines() if "==" in line]
    return dict(line.split("==") for line in lines)


def peers_interpreter() -> Path | None:
    """The interpreter that imports the peers, made here unless it stands; None: it cannot be."""
    interpreter = ENVIRONMENT / "bin" / "python"
    made = ENVIRONMENT / ".made"
    wanted = f"{sys.base_prefix} {sys.version}\n{PINS.read_text()}"
    if made.exists() and made.read_text() == wanted:
        return interpreter
    print("Installing the peers into an environment of their own\n", flush=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        subprocess.run([*install, "-r", str(PINS)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"The peers cannot be installed, so they are left out: {error}\n", flush=True)
        return None
    made.write_text(wanted)
    return interpreter
