"""A network between a client and the server, on loopback, that can be lost."""

import asyncio

CHUNK_BYTES = 65536


class Network:
    """Carries connections to the server until it is told otherwise."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.lost = False
        self.links = []
        self.server = None

    async def open(self):
        """Returns host and port to which a client connects."""
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()

    async def carry(self, reader, writer):
        if self.lost:
            writer.transport.abort()
            return
        link = Link(reader, writer, *await asyncio.open_connection(*self.target))
        self.links.append(link)
        try:
            await link.carry()
        except asyncio.CancelledError:
            # The script has ended.
            pass

    def lose(self):
        """From now on nothing arrives, and nobody is told."""
        self.lost = True
        for link in self.links:
            link.swallows = True

    def tell_client(self):
        """The client learns that its connection is gone; the server does not."""
        for link in self.links:
            link.client.transport.abort()

    def tell_server(self):
        """The server learns that the connection is gone."""
        for link in self.links:
            link.server.transport.abort()

    def restore(self):
        """New connections are carried again. What the old ones lost stays lost."""
        self.lost = False


class Link:
    """One connection through the network."""

    def __init__(self, from_client, client, from_server, server):
        self.from_client = from_client
        self.client = client
        self.from_server = from_server
        self.server = server
        self.swallows = False

    async def carry(self):
        await asyncio.gather(
            self.pump(self.from_client, self.server), self.pump(self.from_server, self.client)
        )

    async def pump(self, source, sink):
        try:
            while chunk := await source.read(CHUNK_BYTES):
                if not self.swallows:
                    sink.write(chunk)
                    await sink.drain()
            if not self.swallows:
                sink.write_eof()
        except OSError:
            # A reset goes on to the other side, unless nobody is to be told.
            if not self.swallows:
                sink.transport.abort()
