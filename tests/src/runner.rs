//! Plays a scenario against a server.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use protocol::{Element, ns};
use tokio::time::Instant;

use crate::client::{Client, Security};
use crate::expect::{self, Captures};
use crate::scenario::{Action, ClientSpec, Scenario, Step, Verb};
use crate::target::Target;
use crate::wire::{Event, WAIT_SECS_MAX};

/// Lines of each client's transcript in the report of a failure.
const TRANSCRIPT_LINES: usize = 12;

/// Rounds in which every client asks the server before "nothing came" is believed. What one client sends may make the
/// server tell a second one, whose answer is told to a third: two rounds cover each chain that scenarios have.
const FENCE_ROUNDS: usize = 2;

/// Pause between two questions for an acknowledgement that depends on somebody else.
const ACK_QUESTION_MS: u64 = 10;

/// Plays all steps. The error names the line, what differed, and what each client saw last.
pub async fn play(scenario: &Scenario, target: &Target) -> Result<()> {
    let mut stage = Stage {
        scenario,
        target,
        clients: BTreeMap::new(),
        left: Vec::new(),
        captures: Captures::new(),
    };
    for step in &scenario.steps {
        if let Err(error) = stage.perform(step).await {
            let transcripts = stage.transcripts();
            return Err(anyhow!(
                "line {}: `{}`: {error:#}\n{transcripts}",
                step.line,
                step.text
            ));
        }
    }
    if let Err(error) = stage.expect_silence().await {
        let transcripts = stage.transcripts();
        return Err(anyhow!("at the end: {error:#}\n{transcripts}"));
    }
    Ok(())
}

struct Stage<'a> {
    scenario: &'a Scenario,
    target: &'a Target,
    /// Clients that have connected, by name; gone again once they disconnect.
    clients: BTreeMap<&'a str, Client>,
    /// What clients that are gone saw last.
    left: Vec<(&'a str, Client)>,
    captures: Captures,
}

impl<'a> Stage<'a> {
    async fn perform(&mut self, step: &'a Step) -> Result<()> {
        match &step.action {
            Action::Befriend(one, other) => self.befriend(one, other).await,
            Action::Client(name, verb) => {
                let spec = &self.scenario.clients[name];
                match verb {
                    Verb::Connect
                    | Verb::LogIn
                    | Verb::ComeOnline
                    | Verb::Dial
                    | Verb::DialTls
                    | Verb::DialWebSocket
                    | Verb::DialStartTls => self.enter(name, spec, verb).await,
                    Verb::Receive(patterns) => self.receive(name, patterns).await,
                    Verb::ReceiveInAnyOrder(patterns) => {
                        self.receive_in_any_order(name, patterns).await
                    }
                    Verb::ReceiveNothing => {
                        self.fence_all().await?;
                        expect_empty_inbox(name, self.client(name)?)
                    }
                    Verb::Ignore => {
                        self.fence_all().await?;
                        self.client(name)?.inbox().clear();
                        Ok(())
                    }
                    Verb::Disconnect => {
                        self.client(name)?.disconnect().await?;
                        self.leave(name)
                    }
                    Verb::Cut => {
                        self.client(name)?.cut()?;
                        self.leave(name)
                    }
                    Verb::Closed | Verb::CutOff => {
                        expect_end(self.client(name)?, matches!(verb, Verb::Closed)).await?;
                        self.leave(name)
                    }
                    Verb::Send(template) => {
                        let text =
                            expect::fill(template, &self.captures).map_err(anyhow::Error::msg)?;
                        self.client(name)?.send(&text).await
                    }
                    Verb::ReceiveHeader(pattern) => self.receive_header(name, pattern).await,
                    other => negotiate(self.client(name)?, spec, other).await,
                }
            }
        }
    }

    fn client(&mut self, name: &str) -> Result<&mut Client> {
        self.clients
            .get_mut(name)
            .with_context(|| format!("{name} is not connected"))
    }

    fn leave(&mut self, name: &str) -> Result<()> {
        self.left.extend(self.clients.remove_entry(name));
        Ok(())
    }

    async fn enter(&mut self, name: &'a str, spec: &ClientSpec, verb: &Verb) -> Result<()> {
        let account = spec.account.clone();
        let resource = spec.resource.as_deref();
        let address = self.target.address(spec.security);
        let client = match verb {
            Verb::Dial => Client::dial(self.target.address(Security::None), account).await?,
            Verb::DialStartTls => {
                let address = self
                    .target
                    .starttls_required()
                    .context("this peer has no such port")?;
                Client::dial(address, account).await?
            }
            Verb::DialTls => {
                let mut client =
                    Client::dial(self.target.address(Security::DirectTls), account).await?;
                client.start_tls(Some("xmpp-client")).await?;
                client
            }
            Verb::DialWebSocket => {
                let address = self.target.address(Security::WebSocket);
                let mut client = Client::dial(address, account).await?;
                client.open_websocket(Security::WebSocket).await?;
                client
            }
            Verb::LogIn => Client::log_in(address, account, spec.security).await?,
            Verb::ComeOnline => come_online(self.target, spec).await?,
            _ => Client::connect(address, account, resource, spec.security).await?,
        };
        ensure!(
            self.clients.insert(name, client).is_none(),
            "{name} is connected already"
        );
        Ok(())
    }

    /// Both subscribe to each other, by two clients that are gone before the scenario goes on.
    async fn befriend(&mut self, one: &str, other: &str) -> Result<()> {
        let specs = [&self.scenario.clients[one], &self.scenario.clients[other]];
        let mut first = come_online(self.target, &with_resource(specs[0], "setup")).await?;
        let mut second = come_online(self.target, &with_resource(specs[1], "setup")).await?;
        let (first_jid, second_jid) = (specs[0].account.bare(), specs[1].account.bare());
        first
            .send(&format!("<presence type='subscribe' to='{second_jid}'/>"))
            .await?;
        first.fence().await?;
        second
            .send(&format!("<presence type='subscribed' to='{first_jid}'/>"))
            .await?;
        second
            .send(&format!("<presence type='subscribe' to='{first_jid}'/>"))
            .await?;
        second.fence().await?;
        first
            .send(&format!("<presence type='subscribed' to='{second_jid}'/>"))
            .await?;
        first.fence().await?;
        second.fence().await?;
        expect_contact(&mut first, &second_jid).await?;
        expect_contact(&mut second, &first_jid).await?;
        first.disconnect().await?;
        second.disconnect().await
    }

    async fn receive(&mut self, name: &str, patterns: &[Element]) -> Result<()> {
        for pattern in patterns {
            let client = self
                .clients
                .get_mut(name)
                .with_context(|| format!("{name} is not connected"))?;
            let element =
                next_of_interest(client, |element| is_same_kind(pattern, element)).await?;
            expect::compare(pattern, &element, &mut self.captures).map_err(|reason| {
                anyhow!(
                    "{reason}\nexpected {}\ngot      {}",
                    pattern.to_xml(),
                    element.to_xml()
                )
            })?;
        }
        Ok(())
    }

    async fn receive_in_any_order(&mut self, name: &str, patterns: &[Element]) -> Result<()> {
        let mut left: Vec<&Element> = patterns.iter().collect();
        while !left.is_empty() {
            let client = self
                .clients
                .get_mut(name)
                .with_context(|| format!("{name} is not connected"))?;
            let wanted =
                |element: &Element| left.iter().any(|pattern| is_same_kind(pattern, element));
            let element = next_of_interest(client, wanted).await?;
            let captures = &mut self.captures;
            let found = left
                .iter()
                .position(|pattern| expect::compare(pattern, &element, captures).is_ok());
            let Some(index) = found else {
                let expected: Vec<String> = left.iter().map(|pattern| pattern.to_xml()).collect();
                bail!(
                    "none of these:\n{}\ngot {}",
                    expected.join("\n"),
                    element.to_xml()
                );
            };
            left.remove(index);
        }
        Ok(())
    }

    async fn receive_header(&mut self, name: &str, pattern: &Element) -> Result<()> {
        let client = self.client(name)?;
        let header = match client.next_event().await? {
            Event::Header(header) => header,
            other => bail!("expected a stream header, got {other:?}"),
        };
        let mut actual = Element::new("stream", ns::STREAM);
        let values = [
            ("to", &header.to),
            ("from", &header.from),
            ("id", &header.id),
            ("version", &header.version),
        ];
        for (name, value) in values {
            actual.set_attr(name, value.as_deref());
        }
        expect::compare(pattern, &actual, &mut self.captures).map_err(|reason| anyhow!("{reason}"))
    }

    async fn fence_all(&mut self) -> Result<()> {
        for _ in 0..FENCE_ROUNDS {
            for (name, client) in &mut self.clients {
                client
                    .fence()
                    .await
                    .with_context(|| format!("{name} asked the server"))?;
            }
        }
        Ok(())
    }

    async fn expect_silence(&mut self) -> Result<()> {
        self.fence_all().await?;
        for (name, client) in &mut self.clients {
            expect_empty_inbox(name, client)?;
        }
        Ok(())
    }

    fn transcripts(&self) -> String {
        let mut text = String::new();
        let left = self.left.iter().map(|(name, client)| (name, client));
        for (name, client) in left.chain(&self.clients) {
            for line in client.transcript(TRANSCRIPT_LINES) {
                let _ = writeln!(text, "  {name} {line}");
            }
        }
        text
    }
}

/// What a client does by itself on its connection.
async fn negotiate(client: &mut Client, spec: &ClientSpec, verb: &Verb) -> Result<()> {
    match verb {
        Verb::StartTls => client.start_tls(None).await,
        Verb::OpenStream => client.open_stream().await,
        Verb::Authenticate => client.authenticate().await,
        Verb::AuthenticateBy(mechanism) => client.authenticate_by(mechanism).await,
        Verb::Bind => client.bind(spec.resource.as_deref()).await,
        Verb::Resume(jid) => {
            client.set_resumed(jid);
            Ok(())
        }
        Verb::SendBytes(bytes) => client.send_bytes(bytes).await,
        Verb::Acknowledged(count) => expect_acknowledged(client, *count).await,
        other => bail!("{other:?} is performed elsewhere"),
    }
}

fn with_resource(spec: &ClientSpec, resource: &str) -> ClientSpec {
    ClientSpec {
        resource: Some(resource.to_owned()),
        ..spec.clone()
    }
}

/// Fails if the two do not see each other now: nothing that follows would make sense.
async fn expect_contact(client: &mut Client, jid: &str) -> Result<()> {
    client.inbox().clear();
    client
        .send("<iq type='get' id='contacts'><query xmlns='jabber:iq:roster'/></iq>")
        .await?;
    let roster = client.next_element().await?;
    let items = roster
        .child("query", ns::ROSTER)
        .into_iter()
        .flat_map(Element::elements);
    let mut contacts = items.filter(|item| item.attr("subscription") == Some("both"));
    ensure!(
        contacts.any(|item| item.attr("jid") == Some(jid)),
        "{} and {jid} did not become friends: {}",
        client.jid(),
        roster.to_xml()
    );
    Ok(())
}

/// Logs in as a client of a person does, and takes what comes of it.
async fn come_online(target: &Target, spec: &ClientSpec) -> Result<Client> {
    let resource = spec.resource.as_deref();
    let mut client = Client::connect(
        target.address(spec.security),
        spec.account.clone(),
        resource,
        spec.security,
    )
    .await?;
    client
        .send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>")
        .await?;
    client.fence().await?;
    client.inbox().clear();
    Ok(client)
}

/// The next element that is not chatter of XEP-0198, unless that is what is wanted.
async fn next_of_interest(
    client: &mut Client,
    wanted: impl Fn(&Element) -> bool,
) -> Result<Element> {
    loop {
        let element = client.next_element().await?;
        if wanted(&element) || !is_chatter(&element) {
            return Ok(element);
        }
    }
}

fn is_same_kind(pattern: &Element, element: &Element) -> bool {
    element.is(pattern.name(), pattern.ns())
}

fn is_chatter(element: &Element) -> bool {
    element.is("r", ns::STREAM_MANAGEMENT) || element.is("a", ns::STREAM_MANAGEMENT)
}

fn expect_empty_inbox(name: &str, client: &mut Client) -> Result<()> {
    match client.inbox().iter().find(|element| !is_chatter(element)) {
        Some(element) => bail!("{name} received something unexpected: {}", element.to_xml()),
        None => Ok(()),
    }
}

/// Waits for the end of the connection. An orderly one has the stream's end tag before it, and nothing but that.
async fn expect_end(client: &mut Client, is_orderly: bool) -> Result<()> {
    let mut is_closed = false;
    loop {
        match client.next_event().await? {
            Event::End if is_orderly && !is_closed => {
                bail!("the connection ended without the stream's end tag")
            }
            Event::End => return Ok(()),
            Event::Close => is_closed = true,
            Event::Element(element) if is_chatter(&element) => {}
            Event::Element(element) if !is_orderly && element.ns() != ns::CLIENT => {}
            Event::Element(element) => bail!("expected the end, got {}", element.to_xml()),
            Event::Header(_) | Event::Garbage(_) if !is_orderly => {}
            other => bail!("expected the end, got {other:?}"),
        }
    }
}

/// Asks until the answer is the awaited one.
async fn expect_acknowledged(client: &mut Client, count: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECS_MAX);
    loop {
        let answer = client.ask_acknowledgement().await?;
        if answer == count.to_string() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "not acknowledged up to {count}: the last answer was h='{answer}'"
        );
        tokio::time::sleep(Duration::from_millis(ACK_QUESTION_MS)).await;
    }
}
