"""Signs of life."""

import asyncio

from pixcrawler.downloader.progress import pulse


async def test_a_pulse_beats_while_work_waits_and_stops_with_it() -> None:
    """Nothing gets done for a while, and still it is told; afterwards there is silence."""
    beats = 0
    thrice = asyncio.Event()

    def report() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            thrice.set()

    async with asyncio.timeout(10), pulse(report, every_s=0.01):
        await thrice.wait()
    heard = beats
    await asyncio.sleep(0.05)
    assert beats == heard
