"""Where things are on a machine."""

import os
from pathlib import Path

import platformdirs


def default_data_dir() -> Path:
    """Where standalone mode keeps its state: the platform's folder for user data.

    As root `/var/lib/pixcrawler`: PostgreSQL refuses to run as root, and another user cannot enter
    a folder below root's home.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/pixcrawler")
    return Path(platformdirs.user_data_dir("pixcrawler", appauthor=False))
