#!/usr/bin/env python3
"""faulty.py backend ADDRESS…: an upstream on one port of these loopback addresses that does what the last line on standard input says. faulty.py load HOST:PORT RATE: so many
requests a second of /b, whatever becomes of them; a line on standard input prints what became of those since the last one. Loopback only; run_faults.py runs both."""
import asyncio, collections, json, sys
BODY = b"x" * 1024; HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n"


async def lines():
    reader = asyncio.StreamReader(); await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline(): yield line.decode().strip()


class Backend:
    """`answer`; `slow`: after a second; `dying`: half a body, then a reset; `dead`: nobody listens, all connections are reset; `flapping`: now that, now an answer."""
    def __init__(self, addresses): self.addresses = addresses; self.port = 0; self.mode = "answer"; self.servers = []; self.open = set(); self.flap = None

    async def listen(self):
        if not self.servers:
            for address in self.addresses: self.servers.append(await asyncio.start_server(self.serve, address, self.port, backlog=1024, reuse_address=True)); self.port = self.servers[0].sockets[0].getsockname()[1]

    def vanish(self):
        for server in self.servers: server.close()
        self.servers = []
        for writer in list(self.open): writer.transport.abort()

    async def be(self, mode):
        if self.flap: self.flap.cancel(); self.flap = None
        self.mode = "answer" if mode == "flapping" else mode
        if mode == "flapping": self.flap = asyncio.create_task(self.flaps())
        elif mode == "dead": self.vanish()
        if mode != "dead": await self.listen()

    async def flaps(self):
        while True: self.vanish(); await asyncio.sleep(0.3); await self.listen(); await asyncio.sleep(0.3)

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if self.mode == "slow": await asyncio.sleep(1)
                writer.write(HEAD + (BODY[:512] if self.mode == "dying" else BODY))
                if self.mode == "dying": await writer.drain(); await asyncio.sleep(0.005); writer.transport.abort(); break
        except (OSError, asyncio.IncompleteReadError): pass
        finally: self.open.discard(writer); writer.close()


async def backend(*addresses):
    b = Backend(addresses); await b.listen(); print(b.port, flush=True)
    async for mode in lines(): await b.be(mode); print(mode, flush=True)


async def load(target, rate):
    host, _, port = target.rpartition(":"); assert host == "127.0.0.1"; idle, became, running = [], collections.Counter(), set()
    async def one():
        writer = None
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
            writer.write(b"GET /b HTTP/1.1\r\nHost: gw.test\r\n\r\n"); head = await reader.readuntil(b"\r\n\r\n"); length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]); await reader.readexactly(length)
            became[head[9:12].decode()] += 1
            if b"connection: close" in head.lower(): writer.close()
            else: idle.append((reader, writer))
        except (OSError, IndexError, asyncio.IncompleteReadError):
            became["cut"] += 1
            if writer: writer.close()
    async def tick():
        loop = asyncio.get_running_loop(); due = loop.time()
        while True:
            while due <= loop.time():
                due += 1 / float(rate)
                if len(running) < 512: task = asyncio.create_task(one()); running.add(task); task.add_done_callback(running.discard)
                else: became["not asked"] += 1
            await asyncio.sleep(0.002)
    ticking = asyncio.create_task(tick())
    async for _ in lines(): print(json.dumps(became), flush=True); became.clear()
    ticking.cancel()


if __name__ == "__main__": asyncio.run(dict(backend=backend, load=load)[sys.argv[1]](*sys.argv[2:]))
