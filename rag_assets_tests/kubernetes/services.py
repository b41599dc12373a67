"""A Service, as kube-proxy makes it: each connection goes to one of the pods that are ready.

What belongs here: forwarding connections. What does not: which pods are ready (`probes.py`).
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LAG = 1.0
"""Minimum seconds until a node knows of a change; the maximum is twice that."""
BYTES = 65536


class Proxy:
    """Forwards connections to ports; what is connected stays so, whatever becomes of the pod."""

    def __init__(self, endpoints: Callable[[], list[int]]) -> None:
        self._endpoints = endpoints
        self._known: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Listen on loopback; yield the URL."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(self._start(), loop).result()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _start(self) -> asyncio.Server:
        self._known = await asyncio.to_thread(self._endpoints)
        self._tasks.add(asyncio.create_task(self._follow()))
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        """Take note of what has changed, again and again."""
        while True:
            seen = await asyncio.to_thread(self._endpoints)
            await asyncio.sleep(LAG)
            self._known = seen

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        back: asyncio.StreamWriter | None = None
        try:
            port = random.choice(self._known)
            answers, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pumped(reader, back), _pumped(answers, writer))
            writer.close()
        except (OSError, IndexError):  # refused, reset, or there is no pod
            writer.transport.abort()
        finally:
            for end in (writer, back):
                if end is not None:
                    end.close()


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then that nothing more does."""
    while data := await reader.read(BYTES):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
