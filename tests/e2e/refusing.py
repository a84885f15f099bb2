"""A service in a version that cannot read one kind of event: `refusing.py SERVICE TOPIC FILE`.

It is the service's own `main`, whose decoder refuses the events of TOPIC while FILE exists.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pixcrawler.common import events
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import Event


def main(service: str, refused: str, file: Path) -> None:
    """Run the service until it is stopped."""
    original = events.decode

    def decode(
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Event:
        if topic == refused and file.exists():
            raise Poison("this version cannot read it")
        return original(topic, key, value, headers)

    events.decode = decode
    importlib.import_module(f"pixcrawler.{service}.__main__").main()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
