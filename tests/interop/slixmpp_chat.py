"""Two slixmpp clients do what people do: log in over STARTTLS with SCRAM, become contacts, see each other's presence,
chat both ways, lose the network and resume (XEP-0198). One has TLS 1.3, the other, as on an older system, 1.2.
"""

import ssl

import person


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
    await juliet.ask_the_server()
    strays = [seen for seen in juliet.seen if seen.startswith("presence")]
    assert not strays, f"a contact saw the resumption: {strays}"


async def leave(romeo, juliet):
    await romeo.disconnect(wait=person.STEP_SECS_MAX)
    await juliet.until(f"presence unavailable {romeo.boundjid.bare}")
    await juliet.disconnect(wait=person.STEP_SECS_MAX)


async def run(args):
    romeo = person.Person(f"romeo@{args.domain}/orchard", args)
    juliet = person.Person(f"juliet@{args.domain}/balcony", args)
    # Binds by `tls-unique` there, which no server should offer any more, and has to get along without.
    juliet.ssl_context.maximum_version = ssl.TLSVersion.TLSv1_2
    await romeo.log_in(args.host, args.port)
    await juliet.log_in(args.host, args.port)
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


if __name__ == "__main__":
    person.run(run)
