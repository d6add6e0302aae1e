//! The proof of "acknowledged means safe": a node under load is killed again and again, and what senders saw
//! acknowledged is compared with what receivers got.
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::actors::{Destination, Dice, Habit, Phase, Receiver, Sender, Stage, receive, send};
use tests::book::Book;
use tests::process::{Home, Process, Setup};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Rounds of the proof; `CRASH_ROUNDS` is another number of them.
const ROUNDS: usize = 50;
/// Nodes that live and die beside each other, as most of a life is spent waiting. Each has its part of the rounds.
const LANES: usize = 4;
/// Rounds within which a node that acknowledges what it has merely routed must have lost something.
const ROUNDS_TO_LOSE: usize = 10;
/// Acknowledged messages must have arrived so long after everybody is back.
const ARRIVAL: Duration = Duration::from_secs(20);
/// The same where some are expected never to arrive: an early end of the wait proves too little in the other test only.
const ARRIVAL_IF_LOST: Duration = Duration::from_secs(3);
/// Everybody must be back, and gone after a kill, by then.
const CLIENTS: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_node_is_killed() {
    let rounds = number("CRASH_ROUNDS")
        .and_then(|rounds| usize::try_from(rounds).ok())
        .unwrap_or(ROUNDS);
    let mut dice = seeded_dice();
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let rounds = rounds / LANES + usize::from(lane < rounds % LANES);
        lanes.spawn(kill_again_and_again(rounds, dice.roll()));
    }
    let mut acked = 0;
    while let Some(lane) = lanes.join_next().await {
        acked += lane.unwrap().unwrap_or_else(|error| panic!("{error:#}"));
    }
    assert!(acked > rounds * 20, "only {acked} were acknowledged");
    let secs = began.elapsed().as_secs_f64();
    eprintln!("{rounds} rounds in {secs:.1} s, {acked} messages were acknowledged");
}

/// Returns how many messages were acknowledged.
async fn kill_again_and_again(rounds: usize, seed: u64) -> Result<usize> {
    let mut crash = Crash::new("settled", seed).await?;
    for _ in 0..rounds {
        let round = crash.round().await;
        round.with_context(|| crash.report())?;
        ensure!(
            crash.lost.is_empty(),
            "{:#?} are lost; {}",
            crash.lost,
            crash.report()
        );
    }
    crash.last_look().await?;
    let problems = crash.book.problems();
    let is_right = crash.lost.is_empty() && problems.is_empty();
    ensure!(
        is_right,
        "{:#?} are lost, {problems:#?}; {}",
        crash.lost,
        crash.report()
    );
    let totals = crash.book.totals();
    ensure!(
        totals.bounced == 0,
        "nobody was to get an error; {}",
        crash.report()
    );
    eprintln!("{}", crash.report());
    Ok(totals.acked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_acknowledges_what_it_routed_is_caught_losing() {
    let mut crash = Crash::new("routed", seeded_dice().roll()).await.unwrap();
    crash.arrival = ARRIVAL_IF_LOST;
    while crash.lost.is_empty() {
        assert!(
            crash.rounds <= ROUNDS_TO_LOSE,
            "no loss was found, so finding none proves nothing; {}",
            crash.report()
        );
        crash.round().await.unwrap();
    }
    eprintln!("found {} losses; {}", crash.lost.len(), crash.report());
}

/// Whatever is chosen at random is chosen by it.
fn seeded_dice() -> Dice {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("CRASH_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    eprintln!("CRASH_SEED={seed} chooses the same kill points again");
    Dice::new(seed)
}

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    Some(text.to_str().unwrap().parse().unwrap())
}

struct Crash {
    home: Home,
    book: Arc<Book>,
    dice: Dice,
    rounds: usize,
    began: Instant,
    /// Acknowledged messages that did not arrive.
    lost: Vec<String>,
    /// Ids to resume by of the receivers' last sessions.
    resume: Vec<Option<String>>,
    load: Duration,
    /// How long an acknowledged message is waited for.
    arrival: Duration,
    complaints: Vec<String>,
}

impl Crash {
    async fn new(acknowledge: &str, seed: u64) -> Result<Self> {
        let setup = Setup {
            general: format!("acknowledge = \"{acknowledge}\""),
            tables: "[access]\nmax_user_offline_messages = [{ acl = \"all\", value = 100000 }]\n"
                .to_owned(),
            ..Setup::default()
        };
        let accounts = receivers().into_iter().map(|receiver| receiver.local);
        let mut accounts: Vec<_> = accounts
            .chain(senders().into_iter().map(|sender| sender.local))
            .collect();
        accounts.dedup();
        Ok(Self {
            home: Home::new(&setup, &accounts).await?,
            book: Arc::default(),
            dice: Dice::new(seed),
            rounds: 0,
            began: Instant::now(),
            lost: Vec::new(),
            resume: vec![None; receivers().len()],
            load: Duration::ZERO,
            arrival: ARRIVAL,
            complaints: Vec::new(),
        })
    }

    /// One life of the node: everybody logs in and gets what waits, then there is load, then the node is killed.
    async fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        let node = Process::start(&self.home).await?;
        let (phase, seen) = watch::channel(Phase::Settling);
        // One life in eight ends while clients log in and get their messages.
        let is_short = self.dice.between(0, 8) == 0;
        let mut clients = self.enter(&node, seen, is_short);
        if is_short {
            tokio::time::sleep(self.dice.millis(5, 250)).await;
        } else {
            clients.all_ready().await?;
            self.lost.extend(self.book.settle(self.arrival).await);
            phase.send_replace(Phase::Load);
            // One in ten is long enough for rows to come and go.
            let load = match self.dice.between(0, 10) {
                0 => self.dice.millis(1_500, 2_500),
                _ => self.dice.millis(50, 800),
            };
            self.load += load;
            tokio::time::sleep(load).await;
        }
        self.end(node, &phase, clients).await
    }

    /// A life without a load, that shows what the one before has left.
    async fn last_look(&mut self) -> Result<()> {
        let node = Process::start(&self.home).await?;
        let (phase, seen) = watch::channel(Phase::Settling);
        let mut clients = self.enter(&node, seen, false);
        clients.all_ready().await?;
        self.lost.extend(self.book.settle(self.arrival).await);
        self.end(node, &phase, clients).await
    }

    async fn end(
        &mut self,
        node: Process,
        phase: &watch::Sender<Phase>,
        clients: Clients,
    ) -> Result<()> {
        self.complaints.extend(node.complaints());
        let ended_at = Instant::now();
        node.kill()?;
        phase.send_replace(Phase::Over);
        self.resume = clients.gone().await?;
        self.book.next_boot(ended_at);
        Ok(())
    }

    /// Everybody comes, or everybody with stream management.
    fn enter(
        &mut self,
        node: &Process,
        phase: watch::Receiver<Phase>,
        only_managed: bool,
    ) -> Clients {
        let stage = Stage::new(node, &self.book, phase);
        let mut tasks = JoinSet::new();
        let (receivers, senders) = (receivers(), senders());
        let count = receivers.len();
        let destinations: Arc<[Destination]> = destinations().into();
        let expected = receivers.len() + senders.len();
        for (index, receiver) in receivers.into_iter().enumerate() {
            if only_managed && receiver.habit == Habit::Slow {
                continue;
            }
            let resume = self.resume[index].take();
            let client = receive(receiver, stage.clone(), self.dice.roll(), resume);
            tasks.spawn(async move { (index, client.await) });
        }
        for sender in senders {
            let (stage, destinations) = (stage.clone(), Arc::clone(&destinations));
            let seed = self.dice.roll();
            tasks.spawn(async move {
                send(sender, stage, destinations, seed).await;
                (usize::MAX, None)
            });
        }
        Clients {
            tasks,
            ready: stage.ready,
            book: Arc::clone(&self.book),
            expected,
            receivers: count,
        }
    }

    fn report(&self) -> String {
        let Self { rounds, load, .. } = self;
        format!(
            "{rounds} rounds in {:.1} s, {:.1} s of load: {:?}\nproblems: {:#?}\ncomplaints of the node: {:#?}\nnotes: {:#?}",
            self.began.elapsed().as_secs_f64(),
            load.as_secs_f64(),
            self.book.totals(),
            self.book.problems(),
            self.complaints,
            self.book.notes(),
        )
    }
}

/// The clients of one life.
struct Clients {
    tasks: JoinSet<(usize, Option<String>)>,
    ready: watch::Sender<usize>,
    book: Arc<Book>,
    expected: usize,
    receivers: usize,
}

impl Clients {
    async fn all_ready(&mut self) -> Result<()> {
        let mut ready = self.ready.subscribe();
        let all = ready.wait_for(|count| *count == self.expected);
        let waited = tokio::time::timeout(CLIENTS, all).await.is_ok();
        let (count, expected) = (*self.ready.borrow(), self.expected);
        ensure!(
            waited,
            "{count} of {expected} clients are ready; problems: {:#?}",
            self.book.problems()
        );
        Ok(())
    }

    async fn gone(mut self) -> Result<Vec<Option<String>>> {
        let mut resume = vec![None; self.receivers];
        let all = async {
            while let Some(done) = self.tasks.join_next().await {
                let (index, id) = done?;
                if let Some(slot) = resume.get_mut(index) {
                    *slot = id;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(CLIENTS, all)
            .await
            .context("clients do not see the end")??;
        Ok(resume)
    }
}

/// One account each, but the last three.
fn receivers() -> Vec<Receiver> {
    let one = |local: &str, habit, is_tls| Receiver {
        local: local.to_owned(),
        resource: "one",
        habit,
        is_tls,
        is_single: true,
    };
    let of_many = |resource, habit, is_tls| Receiver {
        local: "many".to_owned(),
        resource,
        habit,
        is_tls,
        is_single: false,
    };
    vec![
        one("prompt", Habit::Prompt, false),
        one("prompt-tls", Habit::Prompt, true),
        one("late", Habit::Late, false),
        one("late-tls", Habit::Late, true),
        one("never", Habit::Never, false),
        one("never-tls", Habit::Never, true),
        one("flooded", Habit::Never, false),
        one("slow", Habit::Slow, false),
        one("slow-tls", Habit::Slow, true),
        one("restless", Habit::Restless, false),
        one("restless-tls", Habit::Restless, true),
        one("away", Habit::Away, false),
        of_many("prompt", Habit::Prompt, false),
        of_many("never", Habit::Never, true),
        of_many("slow", Habit::Slow, false),
    ]
}

fn destinations() -> Vec<Destination> {
    let to = |local: &str, bytes_max, weight| Destination {
        local: local.to_owned(),
        resource: Some("one"),
        is_single: true,
        bytes_max,
        weight,
    };
    vec![
        to("prompt", 500, 3),
        to("prompt-tls", 5_000, 3),
        to("late", 500, 3),
        to("late-tls", 500, 3),
        to("never", 500, 3),
        to("never-tls", 2_000, 2),
        to("flooded", 40_000, 2),
        to("slow", 4_000, 4),
        to("slow-tls", 4_000, 4),
        to("restless", 500, 3),
        to("restless-tls", 500, 3),
        to("away", 1_000, 3),
        Destination {
            resource: Some("never"),
            is_single: false,
            ..to("many", 1_000, 4)
        },
    ]
}

fn senders() -> Vec<Sender> {
    let sender = |local: &str, is_tls, is_restless, pause_ms| Sender {
        local: local.to_owned(),
        is_tls,
        is_restless,
        is_available: false,
        pause: Duration::from_millis(pause_ms),
    };
    vec![
        sender("sender-1", false, false, 4),
        sender("sender-2", false, true, 4),
        sender("sender-3", false, false, 20),
        sender("sender-4", true, false, 4),
        sender("sender-5", true, true, 10),
    ]
}
