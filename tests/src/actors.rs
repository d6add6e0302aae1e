//! Clients that send and receive for as long as a node lives, each with its own habits.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use protocol::{Element, ns};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::book::Book;
use crate::light::{Light, Resumed, Way, is_stanza};
use crate::process::Process;
use crate::target::DOMAIN;
use crate::wire::Event;

/// Clients that log in at the same time: more would only wait for each other.
const LOGINS_MAX: usize = 32;
/// Messages of one sender that may wait for an acknowledgement.
const WINDOW: usize = 60;
/// A sender asks for an acknowledgement after so many messages.
const ASK_EVERY: usize = 5;
/// Stanzas that a receiver without stream management reads in one breath before it rests.
const REST: Duration = Duration::from_millis(15);
/// The kernel's buffer of a receiver that reads slowly, in bytes.
const SLOW_RECEIVE_BYTES: usize = 4 * 1024;
/// The same when it has no more reason to be slow.
const QUICK_RECEIVE_BYTES: usize = 256 * 1024;
/// Whoever is cut off without a word waits so long for the news that the node has ended.
const NEWS: Duration = Duration::from_secs(5);
/// The same for those who may well have been cut off for their habits.
const NEWS_IF_LIKELY: Duration = Duration::from_millis(100);

/// What the node and the test are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clients log in and get what waits for them.
    Settling,
    /// Senders send, receivers have their habits.
    Load,
    /// The node is gone.
    Over,
}

/// How a client deals with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Acknowledges when asked.
    Prompt,
    /// Acknowledges a good while after it was asked.
    Late,
    /// Never acknowledges; may be cut off for it.
    Never,
    /// Has no stream management and reads slowly; may be cut off for it, and does not come back then. What is written to
    /// its socket counts as delivered, so it reads to the end, and it must not log in when the node is killed: a kernel
    /// that finds unread bytes in a dead process's socket throws away what was to be sent.
    Slow,
    /// Loses its connection now and then, and resumes.
    Restless,
    /// Is not there under load.
    Away,
}

/// A client that receives.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Local part of its account.
    pub local: String,
    /// Its resource.
    pub resource: &'static str,
    /// What it does.
    pub habit: Habit,
    /// Whether it uses TLS.
    pub is_tls: bool,
    /// Whether it is the only session of its account.
    pub is_single: bool,
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Local part of the account.
    pub local: String,
    /// A resource that may be addressed.
    pub resource: Option<&'static str>,
    /// One session at most: see [`Book::send`].
    pub is_single: bool,
    /// Bytes of the longest text.
    pub bytes_max: usize,
    /// How often it is chosen, beside the others.
    pub weight: u32,
}

/// A client that sends.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Local part of its account.
    pub local: String,
    /// Whether it uses TLS.
    pub is_tls: bool,
    /// Whether it loses its connection now and then, and resumes.
    pub is_restless: bool,
    /// Whether it is available, and so gets what is sent to its account.
    pub is_available: bool,
    /// Between two messages.
    pub pause: Duration,
}

/// A stream error that was expected.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// When it came.
    pub at: Instant,
    /// The condition.
    pub condition: String,
    /// Its character data: the address of `see-other-host`.
    pub content: String,
}

/// What all clients of one boot share.
#[derive(Clone)]
pub struct Stage {
    /// The judge.
    pub book: Arc<Book>,
    /// What is being done.
    pub phase: watch::Receiver<Phase>,
    /// One more client is ready, for each value sent.
    pub ready: watch::Sender<usize>,
    /// Where clients connect.
    pub plain: std::net::SocketAddr,
    /// Where they connect with TLS.
    pub tls: std::net::SocketAddr,
    /// Stream errors that senders got. None where none is expected.
    pub farewells: Option<Arc<Mutex<Vec<Farewell>>>>,
    /// So many log in at the same time.
    entrance: Arc<Semaphore>,
}

impl Stage {
    /// For clients of that node.
    pub fn new(node: &Process, book: &Arc<Book>, phase: watch::Receiver<Phase>) -> Self {
        Self {
            book: Arc::clone(book),
            phase,
            ready: watch::Sender::new(0),
            plain: node.c2s,
            tls: node.c2s_tls,
            farewells: None,
            entrance: Arc::new(Semaphore::new(LOGINS_MAX)),
        }
    }

    fn way(&self, is_tls: bool) -> Way {
        if is_tls {
            Way::Tls(self.tls)
        } else {
            Way::Plain(self.plain)
        }
    }

    fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    /// Waits a while for the news that the node has ended.
    async fn is_over(&mut self, wait: Duration) -> bool {
        let over = self.phase.wait_for(|phase| *phase == Phase::Over);
        matches!(timeout(wait, over).await, Ok(Ok(_)))
    }

    fn report_ready(&self) {
        self.ready.send_modify(|count| *count += 1);
    }
}

/// Numbers that look random and come again with the seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// For this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to and without `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low)
    }

    /// That many milliseconds from `low` up to and without `high`.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

/// Why a client's turn ended.
enum Turn {
    /// The connection ended, whatever was said before.
    Ended,
    /// It has cut the connection itself.
    Cut,
    /// It has left in order.
    Left,
}

// ---- receivers

/// A receiver's state between its connections.
struct Receiving {
    receiver: Receiver,
    stage: Stage,
    dice: Dice,
    account: String,
    /// The session that may be resumed, and how many of its stanzas came.
    resumable: Option<(String, u32)>,
    /// What came and was not acknowledged.
    unconfirmed: VecDeque<usize>,
    /// Without stream management: what came, and the number from which on messages were sent later than that.
    written_before: Vec<(usize, usize)>,
    /// How many stanzas came on this session.
    handled: u32,
    is_managed: bool,
    is_reported: bool,
    /// The answer to a late request is due then.
    answer_at: Option<Instant>,
    /// The connection is cut then.
    cut_at: Option<Instant>,
    /// Acknowledgements that the node has not been seen to have read: the numbers that each covers.
    asked: VecDeque<Vec<usize>>,
    /// The server said why it ends the stream.
    stream_error: Option<String>,
}

/// Receives until the node is gone, logging in again whenever that is needed. Returns the id of the session that it
/// had last; `resume` is such an id from an earlier boot, which is tried and must fail.
pub async fn receive(
    receiver: Receiver,
    stage: Stage,
    seed: u64,
    resume: Option<String>,
) -> Option<String> {
    let account = format!("{}@{DOMAIN}", receiver.local);
    let mut state = Receiving {
        receiver,
        dice: Dice::new(seed),
        account,
        resumable: resume.map(|id| (id, 0)),
        unconfirmed: VecDeque::new(),
        written_before: Vec::new(),
        handled: 0,
        is_managed: false,
        is_reported: false,
        answer_at: None,
        cut_at: None,
        asked: VecDeque::new(),
        stream_error: None,
        stage,
    };
    let is_of_earlier_boot = state.resumable.is_some();
    if let Err(error) = state.run(is_of_earlier_boot).await
        && !state.stage.is_over(NEWS).await
    {
        let (local, resource) = (&state.receiver.local, state.receiver.resource);
        state
            .stage
            .book
            .problem(format!("{local}/{resource}: {error:#}"));
    }
    state.resumable.map(|(id, _)| id)
}

impl Receiving {
    async fn run(&mut self, is_of_earlier_boot: bool) -> Result<()> {
        let mut must_fail = is_of_earlier_boot;
        loop {
            let mut client = self.connect(must_fail).await?;
            must_fail = false;
            match self.serve(&mut client).await? {
                Turn::Left => return client.close().await,
                Turn::Cut => client.cut()?,
                Turn::Ended => {
                    let may_be_cut = matches!(self.receiver.habit, Habit::Never | Habit::Slow);
                    let news = if may_be_cut { NEWS_IF_LIKELY } else { NEWS };
                    if self.stream_error.is_none() && self.stage.is_over(news).await {
                        return Ok(());
                    }
                    let said = self.stream_error.take();
                    let (local, resource) = (&self.receiver.local, self.receiver.resource);
                    self.stage
                        .book
                        .note(&format!("{local}/{resource} was cut off: {said:?}"));
                    ensure!(may_be_cut, "the node ended the stream: {said:?}");
                    if self.receiver.habit == Habit::Slow {
                        return Ok(());
                    }
                    // Whatever was not acknowledged comes again.
                    self.resumable = None;
                }
            }
            if self.stage.is(Phase::Over) {
                return Ok(());
            }
        }
    }

    async fn connect(&mut self, must_fail: bool) -> Result<Light> {
        let way = self.stage.way(self.receiver.is_tls);
        let mut client = Light::log_in(way, &self.receiver.local).await?;
        self.asked.clear();
        self.answer_at = None;
        if let Some((id, h)) = self.resumable.take() {
            match client.resume(&id, h).await? {
                Resumed::Goes(_) => {
                    ensure!(!must_fail, "a session of an earlier boot was resumed");
                    self.handled = h;
                    // `h` told the node.
                    self.confirm_all();
                    self.resumable = Some((id, h));
                    return Ok(client);
                }
                Resumed::Gone => ensure!(must_fail, "the session was gone"),
            }
        }
        client.bind(self.receiver.resource).await?;
        self.handled = 0;
        self.unconfirmed.clear();
        self.written_before.clear();
        self.is_managed = self.receiver.habit != Habit::Slow;
        if self.is_managed {
            let (id, early) = client.enable().await?;
            // Not counted.
            for stanza in early {
                self.note(&stanza);
            }
            self.resumable = Some((id, 0));
        } else if let Some(tcp) = client.wire().tcp() {
            socket2::SockRef::from(tcp).set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        }
        client.send("<presence/>").await?;
        // Answered when the presence has been seen to.
        client.send(&ping("ready")).await?;
        Ok(client)
    }

    async fn serve(&mut self, client: &mut Light) -> Result<Turn> {
        let mut phase = self.stage.phase.clone();
        loop {
            let (is_load, is_over) = {
                let phase = phase.borrow_and_update();
                (*phase == Phase::Load, *phase == Phase::Over)
            };
            if is_over
                && self.receiver.habit == Habit::Slow
                && let Some(tcp) = client.wire().tcp()
            {
                // The rest may come quickly.
                socket2::SockRef::from(tcp).set_recv_buffer_size(QUICK_RECEIVE_BYTES)?;
            }
            if is_load && self.receiver.habit == Habit::Away {
                return Ok(Turn::Left);
            }
            if is_load && self.receiver.habit == Habit::Restless && self.cut_at.is_none() {
                self.cut_at = Some(Instant::now() + self.dice.millis(20, 150));
            }
            if is_load && self.receiver.habit == Habit::Slow {
                tokio::time::sleep(REST).await;
            }
            let (answer_at, cut_at) = (self.answer_at, self.cut_at);
            tokio::select! {
                event = client.event() => match event? {
                    Event::Element(element) => self.element(client, &element).await?,
                    Event::Close => {}
                    Event::End => return Ok(Turn::Ended),
                    other => bail!("unexpected {other:?}"),
                },
                () = until(answer_at) => {
                    self.answer_at = None;
                    self.acknowledge(client).await?;
                }
                () = until(cut_at) => {
                    self.cut_at = None;
                    return Ok(Turn::Cut);
                }
                changed = phase.changed() => changed.context("the test has ended")?,
            }
        }
    }

    async fn element(&mut self, client: &mut Light, element: &Element) -> Result<()> {
        if is_stanza(element) {
            self.note(element);
            match element.attr("id") {
                Some("ready") if !self.is_reported => {
                    self.is_reported = true;
                    self.stage.report_ready();
                }
                // The node has read what was sent before the question.
                Some("acknowledged") => {
                    let numbers = self.asked.pop_front();
                    self.stage.book.confirmed(numbers.unwrap_or_default());
                }
                _ => {}
            }
            return Ok(());
        }
        match (element.name(), element.ns()) {
            ("r", ns::STREAM_MANAGEMENT) => {
                let is_load = self.stage.is(Phase::Load);
                match self.receiver.habit {
                    Habit::Never if is_load => {}
                    Habit::Late if is_load => {
                        let wait = self.dice.millis(30, 500);
                        self.answer_at.get_or_insert_with(|| Instant::now() + wait);
                    }
                    _ => self.acknowledge(client).await?,
                }
            }
            // What it has sent itself is no message, and nobody asks for its fate.
            ("a", ns::STREAM_MANAGEMENT) => {}
            ("error", ns::STREAM) => self.stream_error = Some(element.to_xml()),
            _ => bail!("unexpected {}", element.to_xml()),
        }
        Ok(())
    }

    fn note(&mut self, stanza: &Element) {
        if let Some((_, h)) = &mut self.resumable {
            self.handled = self.handled.wrapping_add(1);
            *h = self.handled;
        }
        if stanza.name() != "message" {
            return;
        }
        if let Some(number) = self.stage.book.received(&self.account, stanza) {
            if self.is_managed {
                self.unconfirmed.push_back(number);
            } else {
                self.note_written(number);
            }
        }
    }

    /// The node is done with a message when the whole of the write has gone out that it was part of. What was sent after
    /// it had come is part of a later one.
    fn note_written(&mut self, number: usize) {
        let written = self
            .written_before
            .extract_if(.., |(_, first_later)| *first_later <= number);
        self.stage
            .book
            .confirmed(written.map(|(earlier, _)| earlier));
        let first_later = self.stage.book.sent_count();
        self.written_before.push((number, first_later));
    }

    async fn acknowledge(&mut self, client: &mut Light) -> Result<()> {
        let h = self.handled;
        client
            .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))
            .await?;
        if self.unconfirmed.is_empty() {
            return Ok(());
        }
        self.asked.push_back(self.unconfirmed.drain(..).collect());
        client.send(&ping("acknowledged")).await
    }

    fn confirm_all(&mut self) {
        let numbers: Vec<usize> = self.unconfirmed.drain(..).collect();
        self.stage.book.confirmed(numbers);
    }
}

/// A question to the node, which it answers when it has seen to all that was sent before.
fn ping(id: &str) -> String {
    format!("<iq type='get' id='{id}' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")
}

/// Waits for that time, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

// ---- senders

struct Sending<'a> {
    sender: Sender,
    stage: Stage,
    destinations: &'a [Destination],
    dice: Dice,
    /// Messages, and no other stanzas, that the node has not acknowledged; oldest first.
    outstanding: VecDeque<Sent>,
    /// Stanzas that it has acknowledged.
    acked: u32,
    /// Stanzas that came.
    handled: u32,
    resume_id: String,
    since_question: usize,
    /// Stanzas at the beginning of the session that are no messages and have not been acknowledged.
    uncounted: u32,
    /// It got a stream error that was expected.
    is_dismissed: bool,
}

struct Sent {
    number: usize,
    xml: String,
}

/// Sends until the node is gone.
pub async fn send(sender: Sender, stage: Stage, destinations: Arc<[Destination]>, seed: u64) {
    let mut state = Sending {
        sender,
        stage,
        destinations: &destinations,
        dice: Dice::new(seed),
        outstanding: VecDeque::new(),
        acked: 0,
        handled: 0,
        resume_id: String::new(),
        since_question: 0,
        uncounted: 0,
        is_dismissed: false,
    };
    if let Err(error) = state.run().await
        && !state.stage.is_over(NEWS).await
    {
        let local = &state.sender.local;
        state.stage.book.problem(format!("{local}: {error:#}"));
    }
}

impl Sending<'_> {
    async fn run(&mut self) -> Result<()> {
        let way = self.stage.way(self.sender.is_tls);
        let entrance = Arc::clone(&self.stage.entrance);
        let entering = entrance.acquire().await?;
        let mut client = Light::log_in(way, &self.sender.local).await?;
        client.bind("sender").await?;
        (self.resume_id, _) = client.enable().await?;
        if self.sender.is_available {
            client.send("<presence/>").await?;
            self.uncounted = 1;
        }
        drop(entering);
        self.stage.report_ready();
        loop {
            match self.serve(&mut client).await? {
                Turn::Left => return Ok(()),
                Turn::Ended if self.is_dismissed => return Ok(()),
                Turn::Ended if self.stage.is_over(NEWS).await => return Ok(()),
                Turn::Ended => bail!("the node ended the stream"),
                Turn::Cut => {}
            }
            client.cut()?;
            client = Light::log_in(way, &self.sender.local).await?;
            match client.resume(&self.resume_id, self.handled).await? {
                Resumed::Gone => bail!("the session was gone"),
                Resumed::Goes(h) => self.acknowledged(h)?,
            }
            if self.uncounted > 0 {
                client.send("<presence/>").await?;
            }
            // What the node may not have: it leaves out what it has.
            for sent in &self.outstanding {
                client.send(&sent.xml).await?;
            }
        }
    }

    async fn serve(&mut self, client: &mut Light) -> Result<Turn> {
        let cut_at = self
            .sender
            .is_restless
            .then(|| Instant::now() + self.dice.millis(50, 250));
        let mut phase = self.stage.phase.clone();
        // Not all at once.
        let pause_ms = u64::try_from(self.sender.pause.as_millis())?;
        let mut next_at = Instant::now() + self.dice.millis(0, pause_ms + 1);
        loop {
            let is_load = *phase.borrow_and_update() == Phase::Load;
            let may_send = is_load && !self.is_dismissed && self.outstanding.len() < WINDOW;
            tokio::select! {
                event = client.event() => match event? {
                    Event::Element(element) => self.element(client, &element).await?,
                    Event::Close => {}
                    Event::End => return Ok(Turn::Ended),
                    other => bail!("unexpected {other:?}"),
                },
                () = sleep_until(next_at), if may_send => {
                    next_at = Instant::now() + self.sender.pause;
                    self.send(client).await?;
                }
                () = until(cut_at), if is_load => return Ok(Turn::Cut),
                changed = phase.changed() => changed.context("the test has ended")?,
            }
        }
    }

    async fn send(&mut self, client: &mut Light) -> Result<()> {
        let total: u32 = self.destinations.iter().map(|to| to.weight).sum();
        let mut point = self.dice.roll() % u64::from(total);
        let chosen = self.destinations.iter().find(|to| {
            let is_it = point < u64::from(to.weight);
            point = point.saturating_sub(u64::from(to.weight));
            is_it
        });
        let to = chosen.context("the weights sum up")?;
        let bare = format!("{}@{DOMAIN}", to.local);
        // To a resource that has gone meanwhile, only `chat` goes as if to the account.
        let (address, message_type, is_single) = match (to.resource, self.dice.between(0, 3)) {
            (Some(resource), 0) => (format!("{bare}/{resource}"), "chat", true),
            (_, 1) => (bare, "normal", to.is_single),
            _ => (bare, "chat", to.is_single),
        };
        let bytes = usize::try_from(self.dice.between(10, 20 + to.bytes_max as u64))?;
        let from = format!("{}@{DOMAIN}", self.sender.local);
        let (number, xml) = self
            .stage
            .book
            .send(&from, &address, is_single, message_type, bytes);
        client.send(&xml).await?;
        self.outstanding.push_back(Sent { number, xml });
        self.since_question += 1;
        if self.since_question >= ASK_EVERY || self.outstanding.len() >= WINDOW {
            self.since_question = 0;
            client.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
        }
        Ok(())
    }

    async fn element(&mut self, client: &mut Light, element: &Element) -> Result<()> {
        if is_stanza(element) {
            self.handled = self.handled.wrapping_add(1);
            if element.name() == "message" {
                let account = format!("{}@{DOMAIN}", self.sender.local);
                self.stage.book.received(&account, element);
            }
            return Ok(());
        }
        match (element.name(), element.ns()) {
            ("a", ns::STREAM_MANAGEMENT) => {
                let h = element.attr("h").and_then(|h| h.parse().ok());
                self.acknowledged(h.context("no h")?)
            }
            ("r", ns::STREAM_MANAGEMENT) => {
                let h = self.handled;
                client
                    .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))
                    .await
            }
            ("error", ns::STREAM) if let Some(farewells) = &self.stage.farewells => {
                self.is_dismissed = true;
                let condition = element
                    .elements()
                    .next()
                    .context("an error has a condition")?;
                farewells.lock().push(Farewell {
                    at: Instant::now(),
                    condition: condition.name().to_owned(),
                    content: condition.text().into_owned(),
                });
                Ok(())
            }
            _ => bail!("unexpected {}", element.to_xml()),
        }
    }

    fn acknowledged(&mut self, h: u32) -> Result<()> {
        let count = h.wrapping_sub(self.acked) as usize;
        ensure!(
            count <= self.outstanding.len() + self.uncounted as usize,
            "h='{h}' after {} and with {} outstanding",
            self.acked,
            self.outstanding.len()
        );
        self.acked = h;
        let others = u32::try_from(count)?.min(self.uncounted);
        self.uncounted -= others;
        let count = count - others as usize;
        for sent in self.outstanding.drain(..count) {
            self.stage.book.acknowledged(sent.number);
        }
        Ok(())
    }
}
