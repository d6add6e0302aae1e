//! XEP-0198 section 5 under stress: who resumes when two try at once, when the old connection is still open, and when
//! the new one breaks at any point of its way. Each message must come exactly once and in order, in both directions.
use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::{Element, ns};
use tests::light::{Light, Resumed, Way, is_stanza};
use tests::process::{Home, Process, Setup};
use tests::target::DOMAIN;
use tests::wire::Event;
use tokio::time::timeout;

/// Rounds of each race.
const RACES: usize = 25;
/// Everything that is on its way arrives in this time.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    /// The connection was reset.
    Cut,
    /// The connection has ended in order, the stream has not.
    HungUp,
    /// The server has not noticed anything, and the client does not read any more.
    HalfOpen,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_resume_at_once_one_gets_the_session() {
    for old in [Old::Cut, Old::HungUp, Old::HalfOpen] {
        for is_tls in [false, true] {
            race(old, is_tls)
                .await
                .unwrap_or_else(|error| panic!("{old:?}, TLS {is_tls}: {error:#}"));
        }
    }
}

async fn race(old: Old, is_tls: bool) -> Result<()> {
    let stage = Stage::new(is_tls).await?;
    let mut pair = Pair::new(&stage).await?;
    for _ in 0..RACES {
        pair.talk(3).await?;
        // These wait, or are under way to a connection that nobody reads.
        pair.send_to_juliet(3).await?;
        let mut half_open = pair.leave(old).await?;
        let (mut one, mut other) = (stage.log_in("juliet").await?, stage.log_in("juliet").await?);
        pair.send_to_juliet(2).await?;
        let (id, h) = (pair.juliet.id.clone(), pair.juliet.handled);
        let (first, second) = tokio::join!(one.resume(&id, h), other.resume(&id, h));
        let (mut seen_by_one, mut seen_by_other) = (Vec::new(), Vec::new());
        let (winner, sent, seen, mut loser) = match (first?, second?) {
            (Resumed::Goes(sent), Resumed::Gone) => (one, sent, seen_by_one, Some(other)),
            (Resumed::Gone, Resumed::Goes(sent)) => (other, sent, seen_by_other, Some(one)),
            // The second came when the first had the session already: it takes it, as from any old connection.
            (Resumed::Goes(first), Resumed::Goes(second)) => {
                let (condition, is_first_out) = tokio::select! {
                    condition = stream_error(&mut one, &mut seen_by_one) => (condition?, true),
                    condition = stream_error(&mut other, &mut seen_by_other) => (condition?, false),
                };
                ensure!(condition == "conflict", "the first of two got {condition}");
                if is_first_out {
                    (other, second, seen_by_other, None)
                } else {
                    (one, first, seen_by_one, None)
                }
            }
            both => bail!("they got {both:?}"),
        };
        if let Some(loser) = &mut loser {
            // Its stream is as good as before.
            loser.bind("elsewhere").await?;
        }
        if let Some(half_open) = &mut half_open {
            let condition = stream_error(half_open, &mut Vec::new()).await?;
            ensure!(condition == "conflict", "the old stream got {condition}");
        }
        pair.juliet.go_on(winner, sent).await?;
        for element in seen {
            pair.juliet.take(&element).await?;
        }
        pair.send_to_juliet(1).await?;
    }
    pair.talk(1).await?;
    pair.is_quiet().await
}

/// Where the connection of a client breaks that is about to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Connected,
    HeaderSent,
    FeaturesRead,
    AuthSent,
    LoggedIn,
    HalfResumeSent,
    ResumeSent,
    ResumedRead,
    StanzaRead,
    AllRead,
    AnswerSent,
    StanzaSent,
    HalfStanzaSent,
}

const POINTS: [Point; 13] = [
    Point::Connected,
    Point::HeaderSent,
    Point::FeaturesRead,
    Point::AuthSent,
    Point::LoggedIn,
    Point::HalfResumeSent,
    Point::ResumeSent,
    Point::ResumedRead,
    Point::StanzaRead,
    Point::AllRead,
    Point::AnswerSent,
    Point::StanzaSent,
    Point::HalfStanzaSent,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumption_that_breaks_anywhere_can_be_tried_again() {
    for is_tls in [false, true] {
        for old in [Old::Cut, Old::HungUp] {
            let stage = Stage::new(is_tls).await.unwrap();
            let mut pair = Pair::new(&stage).await.unwrap();
            for point in POINTS {
                break_at(&stage, &mut pair, point, old)
                    .await
                    .unwrap_or_else(|error| panic!("{point:?}, {old:?}, TLS {is_tls}: {error:#}"));
            }
            pair.is_quiet().await.unwrap();
        }
    }
}

async fn break_at(stage: &Stage, pair: &mut Pair, point: Point, how: Old) -> Result<()> {
    pair.talk(2).await?;
    pair.send_to_juliet(3).await?;
    pair.send_to_romeo(1).await?;
    pair.leave(how).await?;
    pair.send_to_juliet(3).await?;
    let broken = pair.juliet.come_back_until(stage, point).await?;
    end(broken, how)?;
    let mut client = stage.log_in("juliet").await?;
    let resumed = client.resume(&pair.juliet.id, pair.juliet.handled).await?;
    let Resumed::Goes(sent) = resumed else {
        bail!("the session is gone")
    };
    pair.juliet.go_on(client, sent).await?;
    pair.talk(2).await
}

fn end(client: Light, how: Old) -> Result<()> {
    match how {
        Old::Cut => client.cut(),
        // Dropped: the kernel says goodbye.
        Old::HungUp | Old::HalfOpen => Ok(()),
    }
}

/// The condition of the stream error that comes next, and what came before it.
async fn stream_error(client: &mut Light, seen: &mut Vec<Element>) -> Result<String> {
    loop {
        match timeout(WAIT, client.event())
            .await
            .context("nothing came")??
        {
            Event::Element(element) if element.is("error", ns::STREAM) => {
                let condition = element.elements().next().context("no condition")?;
                return Ok(condition.name().to_owned());
            }
            Event::Element(element) => seen.push(element),
            other => bail!("no stream error but {other:?}"),
        }
    }
}

struct Stage {
    node: Process,
    is_tls: bool,
    _home: Home,
}

impl Stage {
    async fn new(is_tls: bool) -> Result<Self> {
        let accounts = ["romeo", "juliet"].map(str::to_owned);
        let home = Home::new(&Setup::default(), &accounts).await?;
        let node = Process::start(&home).await?;
        Ok(Self {
            node,
            is_tls,
            _home: home,
        })
    }

    fn way(&self) -> Way {
        if self.is_tls {
            Way::Tls(self.node.c2s_tls)
        } else {
            Way::Plain(self.node.c2s)
        }
    }

    async fn log_in(&self, local: &str) -> Result<Light> {
        Light::log_in(self.way(), local).await
    }
}

/// One end of the conversation, over all its connections.
struct Party {
    local: &'static str,
    client: Option<Light>,
    id: String,
    /// Stanzas received in this session.
    handled: u32,
    /// Messages sent in this session that are not acknowledged.
    outbox: VecDeque<String>,
    acked: u32,
    /// The number of the next message to be sent, and of the next one to come.
    next_to_send: usize,
    next_to_come: usize,
}

/// Two that talk by full addresses. Romeo's connection is good, Juliet's is not.
struct Pair {
    romeo: Party,
    juliet: Party,
}

impl Pair {
    async fn new(stage: &Stage) -> Result<Self> {
        Ok(Self {
            romeo: Party::enter(stage, "romeo").await?,
            juliet: Party::enter(stage, "juliet").await?,
        })
    }

    async fn send_to_juliet(&mut self, count: usize) -> Result<()> {
        self.romeo.send("juliet", count).await
    }

    async fn send_to_romeo(&mut self, count: usize) -> Result<()> {
        self.juliet.send("romeo", count).await
    }

    /// Both send, and both have received everything when it returns.
    async fn talk(&mut self, count: usize) -> Result<()> {
        self.send_to_juliet(count).await?;
        self.send_to_romeo(count).await?;
        self.juliet.receive_up_to(self.romeo.next_to_send).await?;
        self.romeo.receive_up_to(self.juliet.next_to_send).await
    }

    /// Juliet's connection is gone, or as good as gone: then it is returned.
    async fn leave(&mut self, old: Old) -> Result<Option<Light>> {
        let client = self.juliet.client.take().context("she is connected")?;
        if old == Old::HalfOpen {
            return Ok(Some(client));
        }
        end(client, old)?;
        Ok(None)
    }

    /// Nothing comes twice: asks, and sees nothing but the answers.
    async fn is_quiet(&mut self) -> Result<()> {
        for party in [&mut self.romeo, &mut self.juliet] {
            let (before, to_come) = (party.handled, party.next_to_come);
            party.client()?.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
            loop {
                let element = party.client()?.element().await?;
                party.take(&element).await?;
                if element.is("a", ns::STREAM_MANAGEMENT) && party.outbox.is_empty() {
                    break;
                }
            }
            ensure!(
                (before, to_come) == (party.handled, party.next_to_come),
                "more came"
            );
        }
        Ok(())
    }
}

impl Party {
    async fn enter(stage: &Stage, local: &'static str) -> Result<Self> {
        let mut client = stage.log_in(local).await?;
        client.bind("home").await?;
        let (id, early) = client.enable().await?;
        ensure!(early.is_empty(), "{early:?}");
        Ok(Self {
            local,
            client: Some(client),
            id,
            handled: 0,
            outbox: VecDeque::new(),
            acked: 0,
            next_to_send: 0,
            next_to_come: 0,
        })
    }

    fn client(&mut self) -> Result<&mut Light> {
        self.client.as_mut().context("connected")
    }

    async fn send(&mut self, to: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            let number = self.next_to_send;
            self.next_to_send += 1;
            let xml = format!(
                "<message to='{to}@{DOMAIN}/home' type='chat' id='{number}'><body>{number}</body></message>"
            );
            self.client()?.send(&xml).await?;
            self.outbox.push_back(xml);
        }
        self.client()?.send("<r xmlns='urn:xmpp:sm:3'/>").await
    }

    async fn receive_up_to(&mut self, number: usize) -> Result<()> {
        while self.next_to_come < number {
            let local = self.local;
            let element = self.client()?.element().await;
            let element = element.with_context(|| format!("{local} waits for {number}"))?;
            self.take(&element).await?;
        }
        Ok(())
    }

    async fn take(&mut self, element: &Element) -> Result<()> {
        if is_stanza(element) {
            self.handled += 1;
            let (number, local) = (self.next_to_come, self.local);
            ensure!(
                element.attr("id") == Some(&number.to_string()),
                "{local} expected {number}, got {}",
                element.to_xml()
            );
            self.next_to_come += 1;
            return Ok(());
        }
        match (
            element.name(),
            element.attr("h").and_then(|h| h.parse().ok()),
        ) {
            ("a", Some(h)) => self.acknowledged(h),
            ("r", _) => {
                let h = self.handled;
                self.client()?
                    .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))
                    .await
            }
            _ => bail!("unexpected {}", element.to_xml()),
        }
    }

    fn acknowledged(&mut self, h: u32) -> Result<()> {
        let count = h.wrapping_sub(self.acked) as usize;
        ensure!(
            count <= self.outbox.len(),
            "h='{h}' after {} of {}",
            self.acked,
            self.outbox.len()
        );
        self.outbox.drain(..count);
        self.acked = h;
        Ok(())
    }

    /// Goes on with a connection that has resumed the session, of which the server has `sent` stanzas.
    async fn go_on(&mut self, client: Light, sent: u32) -> Result<()> {
        self.client = Some(client);
        self.acknowledged(sent)?;
        for xml in self.outbox.clone() {
            self.client()?.send(&xml).await?;
        }
        self.client()?.send("<r xmlns='urn:xmpp:sm:3'/>").await
    }

    /// Comes back, up to a point; what is read on the way is taken. Returns the connection, to be broken.
    async fn come_back_until(&mut self, stage: &Stage, point: Point) -> Result<Light> {
        let mut client = Light::dial(stage.way()).await?;
        if let Point::Connected = point {
            return Ok(client);
        }
        if let Point::HeaderSent = point {
            client
                .send("<stream:stream to='localhost' version='1.0' ")
                .await?;
            return Ok(client);
        }
        client.open_stream().await?;
        match point {
            Point::FeaturesRead => return Ok(client),
            Point::AuthSent => {
                client
                    .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biwsbj1qdWxpZXQscj1h</auth>")
                    .await?;
                return Ok(client);
            }
            _ => {}
        }
        // The rest of the way belongs to the login of a connection of its own.
        client = stage.log_in(self.local).await?;
        let resume = format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{}' h='{}'/>",
            self.id, self.handled
        );
        match point {
            Point::LoggedIn => return Ok(client),
            Point::HalfResumeSent => {
                client.send(&resume[..resume.len() / 2]).await?;
                return Ok(client);
            }
            Point::ResumeSent => {
                client.send(&resume).await?;
                return Ok(client);
            }
            _ => {}
        }
        let Resumed::Goes(sent) = client.resume(&self.id, self.handled).await? else {
            bail!("the session is gone")
        };
        self.acknowledged(sent)?;
        if let Point::ResumedRead = point {
            return Ok(client);
        }
        self.client = Some(client);
        // Three were sent before the old connection was left, of which some may have been read; three after that.
        let read = if let Point::StanzaRead = point { 1 } else { 6 };
        self.receive_up_to(self.next_to_come + read).await?;
        let h = self.handled;
        match point {
            Point::AnswerSent => {
                self.client()?
                    .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))
                    .await?;
            }
            Point::StanzaSent => self.send("romeo", 1).await?,
            Point::HalfStanzaSent => {
                let half = "<message to='romeo@localhost/home' type='chat' id='never'><bo";
                self.client()?.send(half).await?;
            }
            _ => {}
        }
        self.client.take().context("connected")
    }
}
