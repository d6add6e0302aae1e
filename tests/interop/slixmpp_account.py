"""A stranger in slixmpp makes an account (XEP-0077) and logs in with it, is asked what the client can do (XEP-0115) and
says it as the hash promised, rests without missing anything (XEP-0352), changes the password, and removes the account.
"""

import person

JULIET = "juliet@localhost"
NEW_PASSWORD = "a better secret"


class Stranger(person.Person):
    """A client without an account."""

    def __init__(self, jid, args):
        super().__init__(jid, args)
        self.register_plugin("xep_0066")
        self.register_plugin("xep_0077")
        self.register_plugin("xep_0092")
        self.register_plugin("xep_0115")
        self.register_plugin("xep_0352")
        self.add_event_handler("register", self.on_register)
        self.questions = 0
        self.add_filter("in", self.count_questions)

    async def on_register(self, _):
        request = self.Iq()
        request["type"] = "set"
        request["register"]["username"] = self.boundjid.user
        request["register"]["password"] = self.password
        await request.send(timeout=person.STEP_SECS_MAX)
        self.note("registered")

    def count_questions(self, stanza):
        """What the server wants to know of the client."""
        is_question = stanza.name == "iq" and stanza["type"] == "get"
        if is_question and stanza.get_plugin("disco_info", check=True):
            assert stanza["from"].full == self.boundjid.domain, f"asked by {stanza['from']}"
            self.questions += 1
            self.note("asked")
        return stanza


async def rest(stranger, juliet):
    """The last presence comes, and comes before what is important."""
    for name in (stranger, juliet):
        name.forget()
    stranger.send_presence(pto=JULIET, ptype="subscribe")
    await juliet.until(f"presence subscribe {stranger.boundjid.bare}")
    juliet.send_presence(pto=stranger.boundjid.bare, ptype="subscribed")
    await stranger.until(f"presence available {JULIET}")
    stranger.forget()
    stranger["xep_0352"].send_inactive()
    # Its answer comes behind that.
    await stranger.ask_the_server()
    juliet.send_presence(pshow="away", pstatus="one")
    juliet.send_presence(pshow="away", pstatus="two")
    juliet.send_message(mto=stranger.boundjid.full, mbody="wake up", mtype="chat")
    await stranger.until(f"message {JULIET} wake up")
    came = [seen for seen in stranger.seen if JULIET in seen and not seen.startswith("roster")]
    assert came == [f"presence away {JULIET} two", f"message {JULIET} wake up"], came
    stranger["xep_0352"].send_active()


async def run(args):
    juliet = person.Person(f"{JULIET}/balcony", args)
    await juliet.log_in(args.host, args.port)
    stranger = Stranger(f"stranger@{args.domain}/here", args)
    await stranger.log_in(args.host, args.port)
    assert "registered" in stranger.seen, stranger.seen
    print("made an account and logged in")
    # Sends presence with the hash.
    await stranger["xep_0115"].update_caps()
    await stranger.until("asked")
    await stranger.ask_the_server()
    stranger.send_presence(pstatus="again")
    await stranger.ask_the_server()
    assert stranger.questions == 1, f"asked {stranger.questions} times"
    print("was asked once what the client can do")
    await rest(stranger, juliet)
    print("rested")
    await stranger["xep_0077"].change_password(NEW_PASSWORD, timeout=person.STEP_SECS_MAX)
    print("changed the password")
    stranger.forget()
    juliet.forget()
    await stranger["xep_0077"].cancel_registration(timeout=person.STEP_SECS_MAX)
    await stranger.until("disconnected")
    await juliet.until(f"presence unsubscribe {stranger.boundjid.bare}")
    print("removed the account")
    await juliet.disconnect(wait=person.STEP_SECS_MAX)


if __name__ == "__main__":
    person.run(run)
