"""A program in a terminal: what is typed, and what stands on the screen."""

import asyncio
import fcntl
import os
import pty
import struct
import termios

import pyte

COLUMNS = 200
ROWS = 120
CHUNK_BYTES = 65536


class Terminal:
    """Runs a program that fills the screen. So high that nothing scrolls away within a script."""

    def __init__(self, command, environment):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.changed = asyncio.Event()
        self.has_ended = False
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)
        asyncio.get_running_loop().add_reader(self.terminal, self.read)

    def read(self):
        try:
            chunk = os.read(self.terminal, CHUNK_BYTES)
        except OSError:
            # That is how the end of the program shows at this end of a terminal.
            chunk = b""
        if not chunk:
            self.has_ended = True
            asyncio.get_running_loop().remove_reader(self.terminal)
        self.stream.feed(chunk)
        self.changed.set()

    def enter(self, line):
        """Types a line."""
        os.write(self.terminal, f"{line}\r".encode())

    def count(self, text):
        """In how many lines of the screen a text stands."""
        return sum(text in line for line in self.screen.display)

    def shown(self):
        return "\n".join(line.rstrip() for line in self.screen.display if line.strip())

    async def until(self, what, is_so, secs_max):
        """Waits for a condition, which is looked at whenever the screen changes."""

        async def wait():
            while not is_so():
                assert not self.has_ended, "the program has ended"
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), secs_max)
        except (AssertionError, asyncio.TimeoutError) as error:
            why = str(error) or f"after {secs_max} s"
            raise AssertionError(f"the screen does not show {what} ({why})") from None

    def end(self):
        """Waits for the program, which has been told to end."""
        os.waitpid(self.pid, 0)
