//! XEP-0124 and XEP-0206 against a real node: sessions, windows, lost answers, and clients that mean no good.
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use protocol::{Element, ns};
use tests::bosh::{Answer, Bosh, FIRST_RID, PATH, creation, post, start};
use tests::client::{Account, Client, Security};
use tests::light;
use tests::process::{self, Home, Process};
use tests::target::{DOMAIN, Peer, Setup, Target};

const PASSWORD: &str = "pencil";
/// What a browser's client asks for.
const USUAL: &str = "wait='60' hold='1'";

/// A node with romeo and juliet, and where its BOSH is.
struct Stage {
    target: Target,
    address: SocketAddr,
}

impl Stage {
    async fn new(config: &str) -> Result<Self> {
        let account = |local: &str| Account {
            local: local.to_owned(),
            domain: DOMAIN.to_owned(),
            password: PASSWORD.to_owned(),
        };
        let setup = Setup {
            accounts: vec![account("romeo"), account("juliet")],
            config: format!(
                "{config}\n[[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n\
                 [[listen.http.handlers.mongoose_bosh_handler]]\nhost = \"_\"\npath = \"{PATH}\"\n"
            ),
            listener: String::new(),
        };
        let target = Target::start(Peer::Meerkat, setup).await?;
        let address = *target.http().first().context("no HTTP port")?;
        Ok(Self { target, address })
    }

    async fn juliet(&self) -> Result<Bosh> {
        Bosh::connect(self.address, USUAL, "juliet", PASSWORD).await
    }

    async fn on_tcp(&self, local: &str, resource: &str) -> Result<Client> {
        let account = Account {
            local: local.to_owned(),
            domain: DOMAIN.to_owned(),
            password: PASSWORD.to_owned(),
        };
        let address = self.target.address(Security::DirectTls);
        Client::connect(address, account, Some(resource), Security::DirectTls).await
    }

    async fn ask(&self, body: &str) -> Result<Answer> {
        post(self.address, body).await?.answer().await
    }
}

fn message(to: &str, id: &str) -> String {
    format!(
        "<message xmlns='jabber:client' type='chat' id='{id}' to='{to}'><body>{id}</body></message>"
    )
}

/// The next element of that name; what comes before it stays in the inbox.
async fn next(client: &mut Client, name: &str) -> Result<Element> {
    let inbox = client.inbox();
    if let Some(index) = inbox.iter().position(|element| element.name() == name) {
        return inbox.remove(index).context("it is there");
    }
    let mut before = std::mem::take(inbox);
    loop {
        let element = client.next_element().await?;
        if element.name() == name {
            *client.inbox() = before;
            return Ok(element);
        }
        before.push_back(element);
    }
}

#[track_caller]
fn has_id(element: &Element, id: &str) {
    assert_eq!(element.attr("id"), Some(id), "{}", element.to_xml());
}

/// Compliance case C47.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_bosh_talks_with_one_on_tcp() {
    talk().await.unwrap();
}

async fn talk() -> Result<()> {
    let stage = Stage::new("").await?;
    let (_, created) = Bosh::create(stage.address, "wait='1000000000' hold='1000000'").await?;
    let told = [
        "wait",
        "hold",
        "requests",
        "inactivity",
        "maxpause",
        "ver",
        "from",
    ];
    let told = told.map(|name| created.attr(name).unwrap_or_default());
    ensure!(
        told == ["60", "1", "2", "30", "120", "1.6", DOMAIN],
        "{told:?}"
    );
    ensure!(created.attr("authid").is_some_and(|id| id.len() >= 20));
    let features = created
        .child("features", ns::STREAM)
        .context("no features")?;
    let mechanisms = features
        .child("mechanisms", ns::SASL)
        .context("no mechanisms")?;
    for mechanism in mechanisms.elements() {
        let name = mechanism.text();
        ensure!(
            name.starts_with("SCRAM-") && !name.ends_with("-PLUS"),
            "{name}"
        );
    }

    let mut juliet = stage.juliet().await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    romeo.send("<presence/>").await?;
    let _own = next(&mut romeo, "presence").await?;
    for round in 0..20 {
        let (there, back) = (format!("there{round}"), format!("back{round}"));
        juliet.say(&message("romeo@localhost", &there)).await?;
        has_id(&next(&mut romeo, "message").await?, &there);
        romeo.send(&message("juliet@localhost", &back)).await?;
        has_id(&juliet.element().await?, &back);
    }
    // What stands in the request that ends the session counts.
    let direct = "<presence xmlns='jabber:client' to='romeo@localhost/orchard'/>";
    juliet.say(direct).await?;
    let _available = next(&mut romeo, "presence").await?;
    let last = message("romeo@localhost", "last");
    let end = juliet.body("type='terminate'", &last);
    let answer = juliet.post(&end).await?.answer().await?;
    ensure!(answer.condition()?.is_empty(), "{answer:?}");
    has_id(&next(&mut romeo, "message").await?, "last");
    let gone = next(&mut romeo, "presence").await?;
    ensure!(
        gone.attr("type") == Some("unavailable"),
        "{}",
        gone.to_xml()
    );
    stage.target.stop().await
}

/// Security case B01, compliance case C47.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_may_be_lost_doubled_and_turned_round() {
    bad_network().await.unwrap();
}

async fn bad_network() -> Result<()> {
    let stage = Stage::new("").await?;
    let mut juliet = stage.juliet().await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    romeo.send("<presence/>").await?;
    let _own = next(&mut romeo, "presence").await?;
    romeo.send(&message("juliet@localhost", "free")).await?;
    has_id(&juliet.element().await?, "free");
    let one = juliet.body("", &message("romeo@localhost", "one"));
    let two = juliet.body("", &message("romeo@localhost", "two"));
    let three = juliet.body("", &message("romeo@localhost", "three"));
    // The second one comes first, and twice: that one of them is answered shows that they are there.
    let mut early = Box::pin(juliet.post(&two).await?.answer());
    let mut copy = Box::pin(juliet.post(&two).await?.answer());
    let (replaced, second) = tokio::select! {
        replaced = &mut early => (replaced?, copy),
        replaced = &mut copy => (replaced?, early),
    };
    ensure!(
        replaced.element()?.elements().next().is_none(),
        "{replaced:?}"
    );
    let first = juliet.post(&one).await?;
    has_id(&next(&mut romeo, "message").await?, "one");
    has_id(&next(&mut romeo, "message").await?, "two");
    let empty = first.answer().await?;
    ensure!(empty.element()?.elements().next().is_none(), "{empty:?}");
    // Answered before: the same answer.
    ensure!(stage.ask(&one).await?.body == empty.body);
    // A copy of one that waits takes its place.
    let third_copy = juliet.post(&two).await?;
    let replaced = second.await?;
    ensure!(
        replaced.element()?.elements().next().is_none(),
        "{replaced:?}"
    );
    romeo.send(&message("juliet@localhost", "back")).await?;
    let carried = third_copy.answer().await?;
    let element = carried.element()?;
    has_id(element.elements().next().context("nothing came")?, "back");
    // The answer was lost on its way.
    ensure!(stage.ask(&two).await?.body == carried.body);
    let third = juliet.post(&three).await?;
    has_id(&next(&mut romeo, "message").await?, "three");
    romeo.send(&message("juliet@localhost", "end")).await?;
    let element = third.answer().await?.element()?;
    has_id(element.elements().next().context("nothing came")?, "end");
    // A connection breaks before there is an answer. Whoever asks again gets what came meanwhile.
    let fourth = juliet.body("", "");
    drop(juliet.post(&fourth).await?);
    romeo
        .send(&message("juliet@localhost", "meanwhile"))
        .await?;
    romeo.fence().await?;
    let element = stage.ask(&fourth).await?.element()?;
    has_id(
        element.elements().next().context("nothing came")?,
        "meanwhile",
    );
    // Nothing came twice.
    romeo
        .send("<iq type='get' id='fence' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await?;
    has_id(&next(&mut romeo, "iq").await?, "fence");
    ensure!(romeo.inbox().is_empty(), "something came twice");
    stage.target.stop().await
}

/// Security cases B01, B02 and B03: each ends the session, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b01_b02_b03_who_breaks_the_rules_of_the_window_is_out() {
    break_rules().await.unwrap();
}

async fn break_rules() -> Result<()> {
    let stage = Stage::new("").await?;
    let bystander = Bosh::create(stage.address, USUAL).await?.0;
    let create = async || anyhow::Ok(Bosh::create(stage.address, USUAL).await?.0);
    for rid in [1, FIRST_RID + 3, FIRST_RID + 100, (1 << 53) - 1] {
        let session = create().await?;
        let answer = stage.ask(&session.body_of(rid, "", "")).await?;
        ensure!(answer.condition()? == "item-not-found", "{rid}: {answer:?}");
        // It is over for everybody.
        let after = stage.ask(&session.body_of(FIRST_RID + 1, "", "")).await?;
        ensure!(after.condition()? == "item-not-found", "{after:?}");
    }
    let session = create().await?;
    for rid in ["0", "-1", "9007199254740992", "a"] {
        let body = session
            .body_of(0, "", "")
            .replace("rid='0'", &format!("rid='{rid}'"));
        let answer = stage.ask(&body).await?;
        ensure!(answer.condition()? == "bad-request", "{rid}: {answer:?}");
    }
    // Nobody guesses a name, and none has another's.
    let sid = bystander.sid().to_owned();
    for other in ["", "x", &sid[1..], &sid.to_ascii_lowercase()] {
        let body = bystander
            .body_of(FIRST_RID + 1, "", "")
            .replace(&sid, other);
        let answer = stage.ask(&body).await?;
        ensure!(
            answer.condition()? == "item-not-found",
            "{other}: {answer:?}"
        );
    }
    // Whoever waits is told, too.
    let session = create().await?;
    let early = session.body_of(FIRST_RID + 2, "", "");
    let early = session.post(&early).await?;
    let answer = stage.ask(&session.body_of(FIRST_RID + 3, "", "")).await?;
    ensure!(answer.condition()? == "item-not-found", "{answer:?}");
    ensure!(early.answer().await?.condition()? == "item-not-found");
    // Polling faster than agreed.
    let (mut polling, created) = Bosh::create(stage.address, "wait='60' hold='0'").await?;
    ensure!(created.attr("polling") == Some("5") && created.attr("requests") == Some("1"));
    let first = polling.body("", "");
    // It may bring the features.
    stage.ask(&first).await?.element()?;
    let mut condition = String::new();
    for _ in 0..3 {
        let poll = polling.body("", "");
        let answer = stage.ask(&poll).await?;
        if answer.element()?.attr("type").is_some() {
            condition = answer.condition()?;
            break;
        }
    }
    ensure!(condition == "policy-violation", "{condition:?}");
    // Keys.
    let (mut keyed, _) = Bosh::create(
        stage.address,
        &format!("{USUAL} newkey='ca393b51b682f61f98e7877d61146407f3d0a770'"),
    )
    .await?;
    let wrong = keyed.body("key='bfb06a6f113cd6fd3838ab9d300fdb4fe3da2f7c'", "");
    ensure!(stage.ask(&wrong).await?.condition()? == "item-not-found");
    // The bystander has noticed nothing.
    let pause = bystander.body_of(FIRST_RID + 1, "pause='10'", "");
    let answer = stage.ask(&pause).await?.element()?;
    ensure!(answer.attr("type").is_none() && answer.elements().next().is_none());
    stage.target.stop().await
}

/// Security cases B04 and B06, and those of the reader (row 17): what is no request does no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b04_b06_hostile_requests_are_refused() {
    refuse().await.unwrap();
}

async fn refuse() -> Result<()> {
    let stage = Stage::new("").await?;
    let rows = [
        (creation(USUAL), "improper-addressing"),
        (creation("to=''"), "improper-addressing"),
        (creation("to='a@@b'"), "improper-addressing"),
        (
            creation("to='nowhere.example' route='xmpp:localhost:25'"),
            "host-unknown",
        ),
        (creation("to='localhost' type='terminate'"), "bad-request"),
        (creation("to='localhost' wait='x'"), "bad-request"),
        ("<body".to_owned(), "bad-request"),
        (String::new(), "bad-request"),
        (
            format!("<!DOCTYPE a []>{}", creation("to='localhost'")),
            "bad-request",
        ),
        (
            format!(
                "<body xmlns='{}' rid='1'>{}</body>",
                ns::HTTP_BIND,
                "<a/>".repeat(10_000)
            ),
            "policy-violation",
        ),
        (
            format!(
                "<body xmlns='{}' rid='1'>{}",
                ns::HTTP_BIND,
                "<a>".repeat(10_000)
            ),
            "policy-violation",
        ),
    ];
    for (body, condition) in rows {
        let answer = stage.ask(&body).await?;
        let shown: String = body.chars().take(100).collect();
        ensure!(answer.condition()? == condition, "{shown}: {answer:?}");
    }
    // A stream of another version, and a stanza before login, end with what the stream has to say.
    let old = creation("to='localhost'").replace("xmpp:version='1.0'", "xmpp:version='0.9'");
    let answer = stage.ask(&old).await?;
    ensure!(answer.condition()? == "remote-stream-error", "{answer:?}");
    ensure!(answer.body.contains("<unsupported-version"), "{answer:?}");
    let (mut early, _) = Bosh::create(stage.address, USUAL).await?;
    early.say(&message("romeo@localhost", "early")).await?;
    let error = early.element().await?;
    ensure!(error.is("error", ns::STREAM), "{}", error.to_xml());
    ensure!(error.child("not-authorized", ns::STREAM_ERRORS).is_some());
    stage.target.stop().await
}

/// Security cases B04 and B07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b04_b07_only_whole_posts_are_taken_and_pages_of_all_origins_may_send_them() {
    other_http().await.unwrap();
}

async fn other_http() -> Result<()> {
    let stage = Stage::new("").await?;
    let host = stage.address;
    let requests = [
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            405,
        ),
        (
            format!(
                "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\
                 Connection: close\r\n\r\n"
            ),
            413,
        ),
        (
            format!(
                "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Encoding: gzip\r\n\
                 Content-Length: 2\r\nConnection: close\r\n\r\n\x1f\x08"
            ),
            415,
        ),
    ];
    for (request, status) in requests {
        let answer = start(host, &request).await?.answer().await?;
        ensure!(answer.status == status, "{request}: {answer:?}");
    }
    let preflight = format!(
        "OPTIONS {PATH} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://chat.example\r\n\
         Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
    );
    let answer = start(host, &preflight).await?.answer().await?;
    let allowed = [
        "access-control-allow-origin: *",
        "access-control-allow-methods: post, options",
        "access-control-allow-headers: content-type",
    ];
    ensure!(
        allowed.iter().all(|line| answer.head.contains(line)),
        "{answer:?}"
    );
    ensure!(!answer.head.contains("credentials"), "{answer:?}");
    stage.target.stop().await
}

/// Security case N12: who has logged in on one domain does not go on on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_a_restart_cannot_change_the_domain() {
    let stage = Stage::new("").await.unwrap();
    let mut juliet = Bosh::log_in(stage.address, USUAL, "juliet", PASSWORD)
        .await
        .unwrap();
    let other = juliet.body(
        "to='other.example' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'",
        "",
    );
    let answer = stage.ask(&other).await.unwrap();
    let condition = answer.condition().unwrap();
    assert!(
        ["host-unknown", "remote-stream-error"].contains(&&*condition),
        "{answer:?}"
    );
    stage.target.stop().await.unwrap();
}

/// A client that is silent is lost, and what it did not acknowledge is not: its sender was told that it is safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_lost_answer() {
    lose_answers().await.unwrap();
}

async fn lose_answers() -> Result<()> {
    let stage = Stage::new("[services.service_bosh]\ninactivity = 1\n").await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    romeo.send("<presence/>").await?;
    let _own = next(&mut romeo, "presence").await?;
    romeo.send("<enable xmlns='urn:xmpp:sm:3'/>").await?;
    let _enabled = next(&mut romeo, "enabled").await?;
    let mut juliet = stage.juliet().await?;
    juliet
        .say("<presence xmlns='jabber:client' to='romeo@localhost/orchard'/>")
        .await?;
    let _available = next(&mut romeo, "presence").await?;
    juliet.hold().await?;
    let held = juliet.take_held()?;
    romeo.send(&message("juliet@localhost", "lost")).await?;
    // The answer is written, and nobody has it.
    let answer = held.answer().await?;
    ensure!(answer.body.contains("lost"), "{answer:?}");
    romeo.send(&message("juliet@localhost", "late")).await?;
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
    loop {
        let told = next(&mut romeo, "a").await?;
        if told.attr("h") == Some("2") {
            break;
        }
        romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
    }
    let gone = next(&mut romeo, "presence").await?;
    ensure!(
        gone.attr("type") == Some("unavailable"),
        "{}",
        gone.to_xml()
    );
    let late = juliet.body("", "");
    ensure!(stage.ask(&late).await?.condition()? == "item-not-found");
    let mut again = stage.on_tcp("juliet", "balcony").await?;
    again.send("<presence/>").await?;
    has_id(&next(&mut again, "message").await?, "lost");
    has_id(&next(&mut again, "message").await?, "late");
    stage.target.stop().await
}

/// What comes while no request is there waits for the next one, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_between_two_requests_waits() {
    flood().await.unwrap();
}

async fn flood() -> Result<()> {
    const MESSAGES: usize = 400;
    let stage = Stage::new("").await?;
    let mut juliet = stage.juliet().await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    romeo.send("<presence/>").await?;
    let _own = next(&mut romeo, "presence").await?;
    let content = "x".repeat(400);
    let text: String = (0..MESSAGES)
        .map(|n| {
            format!(
                "<message to='juliet@localhost' type='chat' id='{n}'><body>{content}</body></message>"
            )
        })
        .collect();
    romeo.send(&text).await?;
    romeo.fence().await?;
    for n in 0..MESSAGES {
        has_id(&juliet.element().await?, &n.to_string());
    }
    stage.target.stop().await
}

/// Silence that was announced is no loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_lets_all_requests_go_and_keeps_the_session() {
    pause().await.unwrap();
}

async fn pause() -> Result<()> {
    let stage = Stage::new("[services.service_bosh]\ninactivity = 1\nmax_pause = 60\n").await?;
    let mut juliet = stage.juliet().await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    romeo.send("<presence/>").await?;
    let _own = next(&mut romeo, "presence").await?;
    juliet.hold().await?;
    let held = juliet.take_held()?;
    let pause = juliet.body("pause='60'", "");
    let paused = juliet.post(&pause).await?;
    for pending in [held, paused] {
        let element = pending.answer().await?.element()?;
        ensure!(element.attr("type").is_none() && element.elements().next().is_none());
    }
    // Another session that is silent for as long is gone; by then this one would be, too.
    let (other, _) = Bosh::create(stage.address, USUAL).await?;
    let other_body = other.body_of(FIRST_RID + 2, "", "");
    let lost = other.post(&other_body).await?.answer().await?;
    ensure!(lost.condition()? == "remote-connection-failed", "{lost:?}");
    romeo.send(&message("juliet@localhost", "back")).await?;
    has_id(&juliet.element().await?, "back");
    let long = juliet.body("pause='61'", "");
    ensure!(stage.ask(&long).await?.condition()? == "policy-violation");
    stage.target.stop().await
}

/// XEP-0198 over BOSH: a session that was lost goes on over TCP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_session_is_resumed_from_elsewhere() {
    resume().await.unwrap();
}

async fn resume() -> Result<()> {
    let stage = Stage::new("[services.service_bosh]\ninactivity = 1\n").await?;
    let mut romeo = stage.on_tcp("romeo", "orchard").await?;
    let mut juliet = stage.juliet().await?;
    juliet
        .say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await?;
    let enabled = juliet.element().await?;
    let id = enabled.attr("id").context("no id")?.to_owned();
    juliet.hold().await?;
    let held = juliet.take_held()?;
    romeo.send(&message("juliet@localhost", "lost")).await?;
    ensure!(held.answer().await?.body.contains("lost"));
    let account = Account {
        local: "juliet".to_owned(),
        domain: DOMAIN.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let address = stage.target.address(Security::DirectTls);
    let mut again = Client::log_in(address, account, Security::DirectTls).await?;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await?;
    let resumed = next(&mut again, "resumed").await?;
    ensure!(resumed.attr("previd") == Some(id.as_str()));
    has_id(&next(&mut again, "message").await?, "lost");
    // The old connection is told.
    let late = juliet.body("", "");
    let told = stage.ask(&late).await?;
    ensure!(
        told.element()?.attr("type") == Some("terminate"),
        "{told:?}"
    );
    stage.target.stop().await
}

/// Who waits when the node stops is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_sessions_with_a_word() {
    stop().await.unwrap();
}

async fn stop() -> Result<()> {
    let setup = process::Setup {
        tables: format!(
            "[[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n\
             [[listen.http.handlers.mongoose_bosh_handler]]\nhost = \"_\"\npath = \"{PATH}\"\n"
        ),
        ..process::Setup::default()
    };
    let home = Home::new(&setup, &["juliet".to_owned()]).await?;
    let node = Process::start(&home).await?;
    node.logged("BOSH is served").await?;
    let lines = node.log_lines();
    let line = lines.iter().find(|line| line.contains("BOSH is served"));
    let address = line.and_then(|line| line.split_once("address=")?.1.parse().ok());
    let address: SocketAddr = address.context("no address")?;
    let mut juliet = Bosh::connect(address, USUAL, "juliet", light::PASSWORD).await?;
    juliet.hold().await?;
    let held = juliet.take_held()?;
    node.terminate()?;
    let told = held.answer().await?;
    ensure!(told.condition()? == "system-shutdown", "{told:?}");
    ensure!(told.body.contains("<stream:error>"), "{told:?}");
    let (status, lines) = node.ended().await?;
    ensure!(status.success(), "{}", lines.join("\n"));
    Ok(())
}
