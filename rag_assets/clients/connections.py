"""Connections of asynchronous clients, which belong to the event loop that opened them.

What belongs here: how long they live. What does not: what is sent (`service.py`).
"""

import asyncio
from collections.abc import AsyncGenerator

import httpx2


class LoopClients:
    """A client for each event loop, closed with its loop.

    An application may have one loop after another, by `asyncio.run`. Before that closes a loop, it
    ends the loop's asynchronous generators, so one of those closes the client.
    """

    def __init__(self, base_url: httpx2.URL) -> None:
        self._base_url = base_url
        self._open: dict[
            asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, AsyncGenerator[None, None]]
        ] = {}

    async def of_running_loop(self) -> httpx2.AsyncClient:
        """Return the running loop's client."""
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            lifetime = self._lifetime(loop)
            self._open[loop] = httpx2.AsyncClient(base_url=self._base_url), lifetime
            await anext(lifetime)
        return self._open[loop][0]

    async def close(self) -> None:
        """Close the running loop's client."""
        if found := self._open.get(asyncio.get_running_loop()):
            await found[1].aclose()

    async def _lifetime(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            client, _ = self._open.pop(loop)
            await client.aclose()
