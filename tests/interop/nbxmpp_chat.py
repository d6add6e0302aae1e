"""Two clients of nbxmpp, Gajim's library: they log in, one over STARTTLS, one with TLS from the first byte, become
contacts, chat, and lose the network in several ways, with messages under way in both directions. Nothing may be lost,
nothing may come twice, and all must come in order.

Run by Debian's own Python: the library stands on GLib.
"""

import asyncio
import sys
import threading

from gi.repository import Gio, GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.protocol import Message, Presence
from nbxmpp.structs import StanzaHandler

import arguments
import network

STEP_SECS_MAX = 30


class Wires:
    """A network in a thread of its own: that of the script belongs to GLib."""

    def __init__(self, host, port):
        self.network = network.Network(host, port)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        opening = asyncio.run_coroutine_threadsafe(self.network.open(), self.loop)
        self.host, self.port = opening.result(STEP_SECS_MAX)

    def do(self, change):
        """Calls a method of the network and waits until it has been done."""

        async def call():
            change(self.network)

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(STEP_SECS_MAX)


class Person:
    """A client that writes down what comes, and lets the script wait for it."""

    def __init__(self, name, args, port, kind):
        self.jid = f"{name}@{args.domain}"
        self.wires = Wires(args.host, port)
        self.seen = []
        # What was read, and what the other one should read.
        self.read = []
        self.written = []
        client = self.client = Client(log_context=name)
        client.set_domain(args.domain)
        client.set_username(name)
        client.set_password(args.password)
        client.set_resource("nbxmpp")
        client.set_custom_host(
            f"{self.wires.host}:{self.wires.port}", ConnectionProtocol.TCP, kind
        )
        client.set_accepted_certificates([Gio.TlsCertificate.new_from_file(args.certificate)])
        for signal in (
            "connected",
            "connection-failed",
            "disconnected",
            "resume-failed",
            "resume-successful",
        ):
            client.subscribe(signal, lambda _client, signal: self.note(signal))
        client.register_handler(StanzaHandler(name="message", callback=self.on_message))
        client.register_handler(StanzaHandler(name="presence", callback=self.on_presence))
        client.register_handler(
            StanzaHandler(name="iq", callback=self.on_push, typ="set", ns="jabber:iq:roster")
        )

    def note(self, what):
        self.seen.append(what)

    def on_message(self, _client, stanza, _properties):
        if stanza.getBody() is not None:
            self.read.append(stanza.getBody())

    def on_presence(self, _client, stanza, _properties):
        kind = stanza.getType() or stanza.getShow() or "available"
        self.note(f"presence {kind} {stanza.getFrom().bare}")

    def on_push(self, _client, stanza, _properties):
        for item in stanza.getTag("query").getTags("item"):
            self.note(f"roster {item.getAttr('jid')} {item.getAttr('subscription')}")

    def until(self, what, is_so=None):
        """Waits until something was seen since the last call of `forget`, or for another condition."""
        is_so = is_so or (lambda: what in self.seen)
        late = []
        timer = GLib.timeout_add_seconds(STEP_SECS_MAX, lambda: late.append(True))
        while not is_so():
            GLib.MainContext.default().iteration(True)
            if late:
                raise AssertionError(f"{self.jid}: not `{what}`, only {self.seen} {self.read}")
        GLib.source_remove(timer)

    def forget(self):
        self.seen.clear()

    def log_in(self):
        self.client.connect()
        self.until("connected")
        rosters = []
        self.client.get_module("Roster").request_roster(callback=rosters.append)
        self.until("the roster", lambda: rosters)
        self.client.send_stanza(Presence())
        self.until(f"presence available {self.jid}")
        assert self.client.resumeable, f"{self.jid} has no session that could be resumed"

    def discover(self):
        """Gajim asks for this first, and goes no further without an answer."""
        answers = []

        # Tasks hold their callbacks weakly: this one must have a name.
        def take(task):
            answers.append(task.finish())

        for jid, kind in (self.client.domain, "server"), (self.jid, "account"):
            answers.clear()
            self.client.get_module("Discovery").disco_info(jid, callback=take)
            self.until(f"what {jid} is", lambda: answers)
            kinds = [identity.category for identity in answers[0].identities]
            assert kind in kinds, f"{jid} is {kinds}"

    def subscribe(self, kind, to):
        self.client.send_stanza(Presence(to=to.jid, typ=kind))

    def write(self, to, text):
        self.client.send_stanza(Message(to=to.jid, body=text, typ="chat"))
        self.written.append(text)

    def until_read(self, other):
        """Waits for all that the other one has written: each text once, and in that order."""
        self.until("all that was written", lambda: len(self.read) >= len(other.written))
        assert self.read == other.written, f"{self.read} was read of {other.written}"

    def ask_the_server(self):
        """What was sent before has been routed when the answer is here."""
        answers = []
        self.client.get_module("Ping").ping(self.client.domain, callback=answers.append)
        self.until("an answer of the server", lambda: answers)


def become_contacts(romeo, juliet):
    romeo.subscribe("subscribe", juliet)
    juliet.until(f"presence subscribe {romeo.jid}")
    juliet.subscribe("subscribed", romeo)
    juliet.subscribe("subscribe", romeo)
    romeo.until(f"presence subscribe {juliet.jid}")
    romeo.subscribe("subscribed", juliet)
    for one, other in (romeo, juliet), (juliet, romeo):
        one.until(f"roster {other.jid} both")
        one.until(f"presence available {other.jid}")
    romeo.client.send_stanza(Presence(show="away"))
    juliet.until(f"presence away {romeo.jid}")


def lose_network(losers, everybody, is_server_told):
    """All write, while nothing arrives, and while there is no connection; then the losers come back."""
    romeo, juliet = everybody
    for one in everybody:
        one.forget()
    for loser in losers:
        loser.wires.do(network.Network.lose)
    romeo.write(juliet, "Wouldst thou withdraw it?")
    juliet.write(romeo, "But to be frank")
    for one in everybody:
        if one not in losers:
            # What it wrote has reached the server, and is under way to the other one.
            one.ask_the_server()
    for loser in losers:
        if is_server_told:
            loser.wires.do(network.Network.tell_server)
        loser.wires.do(network.Network.tell_client)
        loser.until("disconnected")
    for one in everybody:
        if one not in losers:
            one.write(romeo if one is juliet else juliet, "Anon, good nurse!")
            one.ask_the_server()
    for loser in losers:
        loser.wires.do(network.Network.restore)
        loser.client.connect()
    for loser in losers:
        loser.until("resume-successful")
        assert "resume-failed" not in loser.seen
    juliet.until_read(romeo)
    romeo.until_read(juliet)
    for one in everybody:
        one.ask_the_server()
        gone = [seen for seen in one.seen if seen.startswith("presence unavailable")]
        assert not gone, f"{one.jid} saw the resumption: {gone}"


def talk(args):
    romeo = Person("romeo", args, args.port, ConnectionType.START_TLS)
    juliet = Person("juliet", args, args.tls_port, ConnectionType.DIRECT_TLS)
    for one in romeo, juliet:
        one.log_in()
        one.discover()
        assert one.client.is_stream_secure
    print("logged in")
    become_contacts(romeo, juliet)
    print("became contacts")
    romeo.write(juliet, "It is my lady")
    juliet.write(romeo, "Ay me!")
    juliet.until_read(romeo)
    romeo.until_read(juliet)
    print("chatted")
    for losers in [romeo], [juliet], [romeo, juliet]:
        for is_server_told in True, False:
            lose_network(losers, (romeo, juliet), is_server_told)
    print("lost the network and resumed")
    romeo.client.disconnect()
    juliet.until(f"presence unavailable {romeo.jid}")
    juliet.client.disconnect()
    juliet.until("disconnected")


def main():
    try:
        talk(arguments.parse())
    except AssertionError as error:
        sys.exit(f"failed: {error}")


if __name__ == "__main__":
    main()
