"""slixmpp's ComponentXMPP as an external component (XEP-0114): it is found, answers and echoes. Its connection is cut
while a client writes to it without a pause: it comes back by itself, nothing is answered twice, and it echoes again.
"""

import asyncio

import slixmpp

import person

MESSAGES = 300
CUT_AT = 100


class Echo(slixmpp.ComponentXMPP):
    """Sends every message back, and comes back itself."""

    def __init__(self, jid, secret, host, port):
        super().__init__(jid, secret, host, port)
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0199")
        self.plugin["xep_0030"].add_identity("gateway", "test", name="echo")
        self.started = asyncio.Event()
        self.is_wanted = True
        self.sessions = 0
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("disconnected", self.on_disconnected)

    def on_start(self, _):
        self.sessions += 1
        self.started.set()

    def on_message(self, message):
        if message["type"] != "error" and message["body"]:
            message.reply(message["body"]).send()

    def on_disconnected(self, _):
        if self.is_wanted:
            self.connect()


async def find(romeo, domain, echo):
    items = await romeo.plugin["xep_0030"].get_items(jid=domain)
    found = [str(jid) for jid, _, _ in items["disco_items"]["items"]]
    assert echo in found, f"the server has {found}"
    info = await romeo.plugin["xep_0030"].get_info(jid=echo)
    kinds = {(category, kind) for category, kind, _, _ in info["disco_info"]["identities"]}
    assert ("gateway", "test") in kinds, kinds
    assert await romeo.plugin["xep_0199"].send_ping(echo) is not None


async def write_without_a_pause(romeo, component, echo):
    """Cuts the component off in the middle."""
    answers = {}
    answered = asyncio.Event()

    def on_answer(message):
        # Each has a receiver of its own; an echo has an id of its own.
        answers.setdefault(int(message["from"].user), []).append(message["type"])
        answered.set()

    romeo.add_event_handler("message", on_answer)
    romeo.add_event_handler("message_error", on_answer)
    component.started.clear()
    for number in range(MESSAGES):
        romeo.send_message(mto=f"{number}@{echo}", mbody=f"word {number}", mtype="chat")
        if number == CUT_AT:
            component.abort()
        if number % 10 == 0:
            # Let the network have its turn.
            await asyncio.sleep(0)
    await asyncio.wait_for(component.started.wait(), person.STEP_SECS_MAX)
    # What the component had read and not answered when it was cut off is its own loss.
    for number in range(MESSAGES, 2 * MESSAGES):
        romeo.send_message(mto=f"{number}@{echo}", mbody=f"word {number}", mtype="chat")
    wanted = set(range(MESSAGES, 2 * MESSAGES))

    async def all_are_there():
        while not wanted <= answers.keys():
            answered.clear()
            await answered.wait()

    await asyncio.wait_for(all_are_there(), person.STEP_SECS_MAX)
    twice = {key: kinds for key, kinds in answers.items() if len(kinds) != 1}
    assert not twice, f"answered more than once: {twice}"
    errors = {key for key in wanted if answers[key] != ["chat"]}
    assert not errors, f"the component was there, and these failed: {errors}"


async def run(args):
    echo = f"echo.{args.domain}"
    component = Echo(echo, args.password, args.host, args.component_port)
    component.connect()
    await asyncio.wait_for(component.started.wait(), person.STEP_SECS_MAX)
    print("the component is connected")
    romeo = person.Person(f"romeo@{args.domain}/orchard", args)
    romeo.register_plugin("xep_0199")
    await romeo.log_in(args.host, args.port)
    await find(romeo, args.domain, echo)
    print("found, asked and pinged it")
    await write_without_a_pause(romeo, component, echo)
    assert component.sessions == 2, f"{component.sessions} sessions of the component"
    print("it was cut off, came back and answered everything")
    component.is_wanted = False
    await component.disconnect(wait=person.STEP_SECS_MAX)
    await romeo.disconnect(wait=person.STEP_SECS_MAX)


if __name__ == "__main__":
    person.run(run)
