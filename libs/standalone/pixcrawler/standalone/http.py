"""As much HTTP as a health check needs."""

import asyncio


async def status_of(address: str, path: str, timeout_s: float) -> int | None:
    """Status code of ``GET path`` at ``host:port``; None without an HTTP answer in time."""
    host, _, port = address.rpartition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(request.encode("ascii"))
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    parts = line.split()
    is_answer = len(parts) > 1 and parts[0].startswith(b"HTTP/") and parts[1].isdigit()
    return int(parts[1]) if is_answer else None
