//! What the reader costs: nanoseconds for each stanza, and what reads of one byte cost in relation to one read.
//!
//! `cargo bench -p protocol` prints both tables, with a name behind it only the rows that contain it. Times are the best of several rounds, so that a busy machine shows
//! as little as it can; the ratios are the figures that have a bound.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use protocol::xml::{Item, Limits, Stamp, StreamReader};
use protocol::{Jid, Stanza};

/// Reads of one byte may cost this many times the CPU of one read.
const RATIO_MAX: f64 = 50.0;

const ROUNDS: usize = 7;

fn main() {
    // Cargo adds `--bench`.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    let from = Jid::parse("romeo@example.net/orchard").expect("an address");
    let stamp = Stamp {
        from: from.as_ref(),
        lang: None,
        is_ours: &|_| false,
    };
    println!(
        "{:<44} {:>6} {:>9} {:>9}",
        "stanza", "bytes", "read ns", "+copy ns"
    );
    for (name, stanza) in stanzas().into_iter().filter(|(name, _)| is_wanted(name)) {
        let many = stanza.repeat(64);
        let floor = best(|| quick_xml_alone(&many));
        let read = best(|| {
            each(many.as_bytes(), usize::MAX, |item| {
                black_box(item);
            });
        });
        let copied = best(|| {
            each(many.as_bytes(), usize::MAX, |item| {
                if let Item::Element(frame) = item {
                    black_box(frame.to_stanza(&stamp).ok());
                }
            });
        });
        let per_stanza = |time: Duration| time.as_secs_f64() * 1e9 / 64.0;
        println!(
            "{name:<44} {:>6} {:>9.0} {:>9.0} {:>9.0}",
            stanza.len(),
            per_stanza(floor),
            per_stanza(read),
            per_stanza(copied)
        );
    }
    println!(
        "\n{:<44} {:>6} {:>9} {:>9} {:>6}",
        "shape", "bytes", "one us", "1 B us", "ratio"
    );
    let mut worst = 0.0_f64;
    for (name, stanza) in shapes().into_iter().filter(|(name, _)| is_wanted(name)) {
        let time = |piece| best(|| each(stanza.as_bytes(), piece, |item| drop(black_box(item))));
        let (one, bytes) = (time(usize::MAX), time(1));
        let ratio = bytes.as_secs_f64() / one.as_secs_f64();
        worst = worst.max(ratio);
        println!(
            "{name:<44} {:>6} {:>9.1} {:>9.1} {ratio:>6.1}",
            stanza.len(),
            one.as_secs_f64() * 1e6,
            bytes.as_secs_f64() * 1e6
        );
    }
    println!("\nworst ratio {worst:.1}, bound {RATIO_MAX}");
    println!(
        "a stanza takes {} bytes besides its own",
        size_of::<Stanza>()
    );
}

/// The best time of several rounds of `work`, each long enough for the clock.
fn best(mut work: impl FnMut()) -> Duration {
    let mut repeats = 1_u32;
    let mut times = Vec::new();
    while times.len() < ROUNDS {
        let start = Instant::now();
        for _ in 0..repeats {
            work();
        }
        let time = start.elapsed();
        if time < Duration::from_millis(20) {
            repeats *= 2;
        } else {
            times.push(time / repeats);
        }
    }
    times.into_iter().min().expect("there are rounds")
}

/// The floor: events and attributes of quick-xml, of one reader for all stanzas, without any check.
fn quick_xml_alone(content: &str) {
    let mut reader = quick_xml::Reader::from_str(content);
    reader.config_mut().check_end_names = false;
    loop {
        match reader.read_event().expect("well-formed") {
            quick_xml::events::Event::Eof => return,
            quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag) => {
                for attribute in tag.attributes().with_checks(false) {
                    black_box(attribute.expect("well-formed"));
                }
            }
            event => drop(black_box(event)),
        }
    }
}

/// Gives the items of a stream with this content, which comes in reads of `piece` bytes.
fn each(content: &[u8], piece: usize, mut use_item: impl FnMut(Item<'_>)) {
    const HEADER: &[u8] = b"<stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    let mut reader = StreamReader::new(Limits::AUTHENTICATED);
    let mut input = HEADER;
    assert!(matches!(reader.next(&mut input), Ok(Some(Item::Header(_)))));
    for read in content.chunks(piece.min(content.len())) {
        let mut input = read;
        while let Some(item) = reader.next(&mut input).expect("well-formed") {
            use_item(item);
        }
    }
    assert!(!reader.is_inside(), "the content is whole");
}

fn stanzas() -> Vec<(&'static str, String)> {
    let body = |bytes: usize| "a quick brown fox jumps over it. ".repeat(40)[..bytes].to_owned();
    let short = |text: &str| {
        format!(
            "<message from='romeo@example.net/orchard' to='juliet@example.com/balcony' id='4f2c9a1e' type='chat'>\
             <body>{text}</body></message>"
        )
    };
    let short_bytes = 242 - short("").len();
    let long = |text: &str| {
        format!(
            "<message to='juliet@example.com/balcony' id='4f2c9a1e' type='chat'><body>{text}</body>\
             <active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
             <markable xmlns='urn:xmpp:chat-markers:0'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='4f2c9a1e'/></message>"
        )
    };
    let long_bytes = 403 - long("").len();
    vec![
        ("message, 1 child", short(&body(short_bytes))),
        (
            "message, 5 children in 4 namespaces",
            long(&body(long_bytes)),
        ),
        ("presence", "<presence/>".to_owned()),
        (
            "iq, ping",
            "<iq type='get' id='x7' to='example.net'><ping xmlns='urn:xmpp:ping'/></iq>".to_owned(),
        ),
        (
            "message with explicit content namespace",
            short(&body(short_bytes)).replace("<message ", "<message xmlns='jabber:client' "),
        ),
        (
            "message that is re-serialised",
            short(&body(short_bytes)).replace("<body>", "<body xmlns='jabber:client'>"),
        ),
    ]
}

/// Shapes whose unfinished tokens are long, and shapes of many small ones.
fn shapes() -> Vec<(&'static str, String)> {
    let text = |text: &str| format!("<message><body>{text}</body></message>");
    let section = |text: &str| format!("<message><body><![CDATA[{text}]]></body></message>");
    let attribute = |value: &str| format!("<message id='{value}'/>");
    let many = |element: &str| format!("<message>{}</message>", element.repeat(2_000));
    let prefixed = |count: usize| -> String { (0..count).map(|n| format!(" a{n}:a=''")).collect() };
    let declarations = |level: usize, count: usize| -> String {
        (0..count)
            .map(|n| {
                format!(
                    " xmlns:{}{n}='{level}.{n}'",
                    ["a", "b", "c", "d", "e", "f", "g", "h"][level]
                )
            })
            .collect()
    };
    let levels: String = (0..8)
        .map(|level| format!("<message{}>", declarations(level, 32)))
        .collect();
    vec![
        ("242 B message", stanzas().swap_remove(0).1),
        ("text of 60 kB", text(&"x".repeat(60_000))),
        (
            "text of 60 kB, two bytes a character",
            text(&"\u{e9}".repeat(30_000)),
        ),
        ("text of 60 kB of >", text(&">".repeat(60_000))),
        ("text of 60 kB of references", text(&"&gt;".repeat(15_000))),
        ("CDATA of 60 kB of >", section(&">".repeat(60_000))),
        ("CDATA of 60 kB of ]", section(&"]".repeat(60_000))),
        ("CDATA of 60 kB of ]] >", section(&"]] >".repeat(15_000))),
        (
            "CDATA of 4,000 sections",
            text(&"<![CDATA[]]>".repeat(4_000)),
        ),
        ("attribute of 8 kB of >", attribute(&">".repeat(8_000))),
        ("attribute of 60 kB of \"", attribute(&"\"".repeat(60_000))),
        (
            "attribute of 60 kB of references",
            attribute(&"&lt;".repeat(15_000)),
        ),
        ("2,000 empty elements", many("<a/>")),
        ("2,000 elements with end tags", many("<a></a>")),
        ("2,000 elements with text", many("<a>t</a>")),
        (
            "2,000 elements with two attributes",
            many("<a b='1' c='2'/>"),
        ),
        (
            "31 namespaces, 4,000 attributes with prefixes",
            format!(
                "<message{}>{}</message>",
                declarations(0, 31),
                format!("<a0:b{}/>", prefixed(16)).repeat(250)
            ),
        ),
        (
            "256 namespaces, 3,584 attributes with prefixes",
            format!(
                "{levels}{}{}",
                format!("<a0:b{}/>", prefixed(32)).repeat(112),
                "</message>".repeat(8)
            ),
        ),
    ]
}
