"""Two slixmpp clients do what people do: log in over STARTTLS with SCRAM, become contacts, see each other's presence,
chat both ways, lose the network and resume (XEP-0198).

Called with host, port, domain and the two accounts' passwords; says what it has seen, and exits with 0 if that is all
that it should see. Nothing sleeps: every step waits for what must come, with a limit.
"""

import argparse
import asyncio
import ssl
import sys

import slixmpp
import slixmpp.exceptions

STEP_SECS_MAX = 15


class Person(slixmpp.ClientXMPP):
    """A client that writes down what comes, and lets others wait for it."""

    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0198")
        # Requests are answered by the script, so that the state machine of the server is what is seen.
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        self.seen = []
        self.changed = asyncio.Event()
        self.add_event_handler("session_start", lambda _: self.note("session_start"))
        self.add_event_handler("session_resumed", lambda _: self.note("session_resumed"))
        self.add_event_handler("session_end", lambda _: self.note("session_end"))
        self.add_event_handler("sm_enabled", lambda _: self.note("sm_enabled"))
        self.add_event_handler("tls_success", lambda _: self.note("tls_success"))
        self.add_event_handler("disconnected", lambda _: self.note("disconnected"))
        self.add_event_handler("failed_auth", lambda _: self.note("failed_auth"))
        self.add_event_handler("auth_success", lambda _: self.note("auth_success"))
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("presence", self.on_presence)
        self.add_event_handler("roster_update", self.on_roster)

    def on_message(self, message):
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

    def cut(self):
        """Ends the connection as a network that is gone does: a reset, no end of stream."""
        self.transport.abort()


def trusting_context():
    """The certificate of the node under test is self-signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def log_in(person, host, port):
    person.ssl_context = trusting_context()
    person.enable_direct_tls = False
    person.enable_starttls = True
    person.connect(host, port)
    await person.until("session_start")
    assert "tls_success" in person.seen, "the stream is not encrypted"
    await person.get_roster()
    person.send_presence()
    await person.until("sm_enabled")


async def become_contacts(romeo, juliet):
    romeo.send_presence(pto=juliet.boundjid.bare, ptype="subscribe")
    await juliet.until(f"presence subscribe {romeo.boundjid.bare}")
    juliet.send_presence(pto=romeo.boundjid.bare, ptype="subscribed")
    juliet.send_presence(pto=romeo.boundjid.bare, ptype="subscribe")
    await romeo.until(f"presence subscribed {juliet.boundjid.bare}")
    await romeo.until(f"presence subscribe {juliet.boundjid.bare}")
    romeo.send_presence(pto=juliet.boundjid.bare, ptype="subscribed")
    await juliet.until(f"presence subscribed {romeo.boundjid.bare}")
    await romeo.until(f"roster {juliet.boundjid.bare} both")
    await juliet.until(f"roster {romeo.boundjid.bare} both")


async def see_presence(romeo, juliet):
    romeo.send_presence(pshow="away", pstatus="in the orchard")
    await juliet.until(f"presence away {romeo.boundjid.bare} in the orchard")
    juliet.send_presence(pstatus="on the balcony")
    await romeo.until(f"presence available {juliet.boundjid.bare} on the balcony")


async def chat(romeo, juliet):
    romeo.send_message(mto=juliet.boundjid.bare, mbody="Neither, fair saint", mtype="chat")
    await juliet.until(f"message {romeo.boundjid.bare} Neither, fair saint")
    juliet.send_message(mto=romeo.boundjid.full, mbody="What man art thou?", mtype="chat")
    await romeo.until(f"message {juliet.boundjid.bare} What man art thou?")


async def cut_and_resume(romeo, juliet, host, port):
    """What is sent while the network is gone arrives after the resumption; contacts see nothing of it."""
    jid = romeo.boundjid.full
    romeo.forget()
    juliet.forget()
    romeo.cut()
    await romeo.until("disconnected")
    juliet.send_message(mto=romeo.boundjid.bare, mbody="Art thou gone so?", mtype="chat")
    romeo.connect(host, port)
    await romeo.until("session_resumed")
    await romeo.until(f"message {juliet.boundjid.bare} Art thou gone so?")
    assert romeo.boundjid.full == jid, f"resumed as {romeo.boundjid.full}, not {jid}"
    assert "session_start" not in romeo.seen, "a new session was started"
    # An answer to a question that comes after: whatever the resumption caused has come by then.
    await ask_the_server(juliet)
    strays = [seen for seen in juliet.seen if seen.startswith("presence")]
    assert not strays, f"a contact saw the resumption: {strays}"


async def ask_the_server(person):
    """Any question will do: also an error is an answer."""
    request = person.make_iq_get(queryxmlns="jabber:iq:version", ito=person.boundjid.domain)
    try:
        await request.send(timeout=STEP_SECS_MAX)
    except slixmpp.exceptions.IqError:
        pass


async def leave(romeo, juliet):
    await romeo.disconnect(wait=STEP_SECS_MAX)
    await juliet.until(f"presence unavailable {romeo.boundjid.bare}")
    await juliet.disconnect(wait=STEP_SECS_MAX)


async def run(args):
    romeo = Person(f"romeo@{args.domain}/orchard", args.password)
    juliet = Person(f"juliet@{args.domain}/balcony", args.password)
    await log_in(romeo, args.host, args.port)
    await log_in(juliet, args.host, args.port)
    print("logged in over STARTTLS")
    await become_contacts(romeo, juliet)
    print("subscribed both ways")
    await see_presence(romeo, juliet)
    print("saw presence")
    await chat(romeo, juliet)
    print("chatted")
    await cut_and_resume(romeo, juliet, args.host, args.port)
    print("lost the network and resumed")
    await leave(romeo, juliet)
    print("left")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--password", required=True)
    try:
        asyncio.run(run(parser.parse_args()))
    except AssertionError as error:
        sys.exit(f"failed: {error}")


if __name__ == "__main__":
    main()
