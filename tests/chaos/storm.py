"""A schedule at work: every blow at its time, each in a thread of its own."""

import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tests.chaos import damage
from tests.chaos.scene import Scene
from tests.chaos.schedule import Blow

AT_ONCE = 16
PATIENCE_S = 120.0
"""For so long a blow that cannot fall (the broker is just away) is tried again."""
AGAIN_S = 1.0


class Storm:
    """Does what a schedule says while the context lasts, and takes everything back at its end.

    Args:
        scene: Where.
        blows: In their order.
        say: Told of each blow.
    """

    def __init__(self, scene: Scene, blows: Sequence[Blow]) -> None:
        self._scene = scene
        self._blows = blows
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.struck: list[Blow] = []
        self.missed: list[tuple[Blow, str]] = []

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="storm")
        self._began = time.monotonic()
        self._dealing = threading.Thread(target=self._deal, name="storm", daemon=True)
        self._dealing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._ended.set()
        self._dealing.join()
        self._pool.shutdown()

    @property
    def over(self) -> bool:
        """Whether everything has been done, and taken back."""
        return not self._dealing.is_alive()

    def _deal(self) -> None:
        falling: list[Future[None]] = []
        for blow in self._blows:
            if self._pass(self._began + blow.at_s - time.monotonic()):
                break
            falling.append(self._pool.submit(self._strike, blow))
        for each in falling:
            each.result()

    def _strike(self, blow: Blow) -> None:
        """From the damage to its end; nothing of it is left behind."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            doing = damage.of(blow, self._scene)
            try:
                doing.inflict()
            except Exception as error:  # noqa: BLE001 - whatever stands in its way
                if time.monotonic() >= deadline or self._ended.is_set():
                    self._miss(blow, error)
                    return
            else:
                with self._lock:
                    self.struck.append(blow)
                self._scene.tally.add(blow.kind)
                self._pass(blow.lasts_s)
                return
            finally:
                self._heal(blow, doing)
            self._pass(AGAIN_S)

    def _heal(self, blow: Blow, doing: damage.Damage) -> None:
        try:
            doing.heal()
        except Exception as error:  # noqa: BLE001 - told, and the scene's end heals all the same
            self._miss(blow, error)

    def _miss(self, blow: Blow, error: Exception) -> None:
        with self._lock:
            said = traceback.format_exception_only(error)[-1].strip()
            self.missed.append((blow, said))
        self._scene.tally.add("missed")

    def _pass(self, seconds: float) -> bool:
        """Let the time pass; whether the storm is to end."""
        return self._ended.wait(max(0.0, seconds))
