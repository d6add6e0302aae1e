"""A slixmpp client that says what it sees: one side of every conversation here, and a script of its own.

Nothing sleeps: every step waits for what must come, with a limit.
"""

import asyncio
import ssl
import sys

import slixmpp
import slixmpp.exceptions

import arguments

STEP_SECS_MAX = 15


class Person(slixmpp.ClientXMPP):
    """A client that writes down what comes, and lets others wait for it."""

    def __init__(self, jid, args):
        super().__init__(jid, args.password)
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0198")
        # Requests are answered by the script, so that the state machine of the server is what is seen.
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        self.ssl_context = ssl.create_default_context(cafile=args.certificate)
        self.enable_direct_tls = False
        self.enable_starttls = True
        self.seen = []
        self.changed = asyncio.Event()
        for event in (
            "session_start",
            "session_resumed",
            "session_end",
            "sm_enabled",
            "tls_success",
            "disconnected",
            "failed_auth",
            "auth_success",
        ):
            self.add_event_handler(event, lambda _, event=event: self.note(event))
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("presence", self.on_presence)
        self.add_event_handler("roster_update", self.on_roster)

    def on_message(self, message):
        # Chat states alone are not what is counted.
        if message["body"]:
            self.note(f"message {message['from'].bare} {message['body']}")

    def on_presence(self, presence):
        self.note(f"presence {presence['type']} {presence['from'].bare} {presence['status']}")

    def on_roster(self, iq):
        for jid, item in iq["roster"]["items"].items():
            self.note(f"roster {jid.bare} {item['subscription']}")

    def note(self, what):
        self.seen.append(what.strip())
        self.changed.set()

    async def until(self, what):
        """Waits until something was seen since the last call of `forget`."""

        async def wait():
            while what not in self.seen:
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), STEP_SECS_MAX)
        except asyncio.TimeoutError:
            raise AssertionError(f"{self.boundjid} has not seen `{what}`, only {self.seen}") from None

    def forget(self):
        self.seen.clear()

    async def log_in(self, host, port):
        """A new session over STARTTLS, with roster, presence and stream management."""
        self.connect(host, port)
        await self.until("session_start")
        assert "tls_success" in self.seen, "the stream is not encrypted"
        await self.get_roster()
        self.send_presence()
        await self.until("sm_enabled")

    async def ask_the_server(self):
        """What was sent before has been routed when the answer is here. Any question will do: also an error is an
        answer."""
        request = self.make_iq_get(queryxmlns="jabber:iq:version", ito=self.boundjid.domain)
        try:
            await request.send(timeout=STEP_SECS_MAX)
        except slixmpp.exceptions.IqError:
            pass

    def cut(self):
        """Ends the connection as a network that is gone does: a reset, no end of stream."""
        self.transport.abort()


def run(script):
    """Calls a script with the flags that every one is started with; what does not hold is said in one line."""
    try:
        asyncio.run(script(arguments.parse()))
    except AssertionError as error:
        sys.exit(f"failed: {error}")
