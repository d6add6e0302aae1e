"""Profanity in a terminal, driven as a person does, and juliet in slixmpp: romeo looks at the fingerprint of the
certificate, logs in, becomes a contact, chats, and loses the network in several ways; then all that again over TLS from
the first byte. Nothing may be lost and nothing may come twice.
"""

import hashlib
import os
import pathlib
import ssl
import tempfile

import network
import person
import terminal

SECS_MAX = 30
# Whether the server learns that the connection is gone, each time the network is lost.
IS_SERVER_TOLD = (True, False, True)
ROMEO, JULIET = "romeo@localhost", "juliet@localhost"


class Profanity(terminal.Terminal):
    """With a home of its own."""

    def __init__(self, home):
        environment = {
            "HOME": home,
            "XDG_CONFIG_HOME": f"{home}/config",
            "XDG_DATA_HOME": f"{home}/data",
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "linux",
        }
        super().__init__(["profanity", "--log", "DEBUG"], environment)
        self.log = pathlib.Path(home) / "data/profanity/logs/profanity.log"

    async def sees(self, text, times=1):
        """Waits until a text stands in so many lines. More would be too many, at any time."""
        await self.until(f"`{text}`", lambda: self.count(text) >= times, SECS_MAX)
        assert self.count(text) == times, f"`{text}` {self.count(text)} times"


def fingerprint(certificate):
    """As Profanity shows it. Above the certificate the file may say in words what it is."""
    text = pathlib.Path(certificate).read_text()
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])
    return hashlib.sha1(der).hexdigest()


async def log_in(romeo, args, line):
    await romeo.sees("Profanity. Type /help for help information.")
    # A second is the shortest; it is what a lost connection waits for.
    romeo.enter("/reconnect 1")
    await romeo.sees("Reconnect interval set to 1 seconds.")
    # Nobody is away because a script looks for a while.
    romeo.enter("/autoaway mode off")
    await romeo.sees("Auto away mode set to: off.")
    romeo.enter(line)
    await romeo.sees("Enter password:")
    romeo.enter(args.password)


async def trust(romeo, args):
    await romeo.sees("TLS certificate verification failed: self-signed certificate")
    await romeo.sees(f"Fingerprint         : {fingerprint(args.certificate)}")
    await romeo.sees("Use '/tls always' to accept this certificate permanently.")
    romeo.enter("/tls always")


async def become_contacts(romeo, juliet):
    romeo.enter(f"/sub request {JULIET}")
    await juliet.until(f"presence subscribe {ROMEO}")
    juliet.send_presence(pto=ROMEO, ptype="subscribed")
    await romeo.sees(f"Subscription received from {JULIET}")
    await romeo.sees(f"++ {JULIET} (balcony) is online")
    juliet.send_presence(pto=ROMEO, ptype="subscribe")
    await romeo.sees(f"Received authorization request from {JULIET}")
    romeo.enter(f"/sub allow {JULIET}")
    await juliet.until(f"presence subscribed {ROMEO}")
    await juliet.until(f"roster {ROMEO} both")
    # What comes to romeo because of his answer has come before this.
    juliet.send_message(mto=ROMEO, mbody="O gentle Romeo", mtype="chat")
    await romeo.sees(f"<< chat message: {JULIET}/balcony (win 2)")
    romeo.enter(f"/sub show {JULIET}")
    await romeo.sees(f"{JULIET} subscription status: both.")


async def see_presence(romeo, juliet):
    juliet.send_presence(pshow="away", pstatus="asleep")
    await romeo.sees(f'++ {JULIET} (balcony) is away, "asleep"')
    romeo.enter('/status set away "in the orchard"')
    await juliet.until(f"presence away {ROMEO} in the orchard")


async def chat(romeo, juliet):
    # Opens a window for juliet: what is typed from now on goes to her, and what she says stands in it.
    romeo.enter(f"/msg {JULIET} Neither, fair saint")
    await juliet.until(f"message {ROMEO} Neither, fair saint")
    juliet.send_message(mto=ROMEO, mbody="What man art thou?", mtype="chat")
    await romeo.sees("What man art thou?")


async def lose_network(romeo, juliet, wires, number, is_server_told):
    """Juliet says something that the network swallows. It arrives once the client has found the way back, romeo goes on
    speaking, and she does not see her contact go.

    He says nothing while the network swallows: libstrophe before 0.13 counts what it sends from the server's
    `<enabled/>` on, where XEP-0198 has it count from its own `<enable/>`, so it forgets what it would have to repeat.
    """
    juliet.forget()
    said, answered = f"By a name, {number}", f"I know not how, {number}"
    wires.lose()
    juliet.send_message(mto=ROMEO, mbody=answered, mtype="chat")
    # It has reached the server: it is under way to romeo when the connection ends.
    await juliet.ask_the_server()
    if is_server_told:
        wires.tell_server()
    wires.tell_client()
    await romeo.until("that it is offline", lambda: romeo.count("[TLS] [online]") == 0, SECS_MAX)
    wires.restore()
    await romeo.until("that it is online", lambda: romeo.count("[TLS] [online]") == 1, SECS_MAX)
    await romeo.sees(answered)
    romeo.enter(said)
    await juliet.until(f"message {ROMEO} {said}")
    await juliet.ask_the_server()
    gone = [seen for seen in juliet.seen if seen.startswith("presence unavailable")]
    assert not gone, f"a contact saw the resumption: {gone}"
    copies = juliet.seen.count(f"message {ROMEO} {said}")
    assert copies == 1, f"{copies} of one message"


async def talk(romeo, juliet, wires, line, args, is_stranger):
    await log_in(romeo, args, line)
    await trust(romeo, args)
    await romeo.sees(" logged in successfully, online (priority 0).")
    print(f"logged in with {line}")
    if is_stranger:
        await become_contacts(romeo, juliet)
        print("became contacts")
    else:
        # In the roster beside the console; nobody is below "Offline".
        await romeo.sees(JULIET)
        await romeo.sees("Offline (0)")
    await see_presence(romeo, juliet)
    await chat(romeo, juliet)
    print("saw presence and chatted")
    for number, is_server_told in enumerate(IS_SERVER_TOLD):
        await lose_network(romeo, juliet, wires, number, is_server_told)
    for number in range(len(IS_SERVER_TOLD)):
        await romeo.sees(f"I know not how, {number}")
    # The screen looks the same after a new login.
    resumed = romeo.log.read_text().count("Session resumed successfully.")
    assert resumed == len(IS_SERVER_TOLD), f"resumed {resumed} times"
    print("lost the network and resumed")


async def visit(args, home, port, flags, is_stranger):
    wires = network.Network(args.host, port)
    host, near_port = await wires.open()
    juliet = person.Person(f"{JULIET}/balcony", args)
    await juliet.log_in(args.host, args.port)
    romeo = Profanity(home)
    try:
        line = f"/connect {ROMEO} server {host} port {near_port} {flags}"
        await talk(romeo, juliet, wires, line, args, is_stranger)
    except AssertionError as error:
        raise AssertionError(f"{error}\nProfanity shows\n{romeo.shown()}") from None
    romeo.enter("/quit")
    await juliet.until(f"presence unavailable {ROMEO}")
    romeo.end()
    await juliet.disconnect(wait=person.STEP_SECS_MAX)


async def run(args):
    # What Profanity calls legacy is TLS from the first byte.
    for port, flags, is_stranger in (args.port, "tls force", True), (args.tls_port, "tls legacy", False):
        with tempfile.TemporaryDirectory() as home:
            await visit(args, home, port, flags, is_stranger)


if __name__ == "__main__":
    person.run(run)
