//! What reading allocates, counted. One test, as the counts are those of the whole process.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::alloc::System;
use std::hint::black_box;

use protocol::xml::{Item, Limits, Stamp, StreamReader};
use protocol::{Jid, Stanza};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// A chat message of 242 bytes.
const MESSAGE: &str = "<message from='romeo@example.net/orchard' to='juliet@example.com/balcony' id='4f2c9a1e' \
    type='chat'><body>a quick brown fox jumps over it. a quick brown fox jumps over it. a quick brown fox jumps over \
    it. a quick brown fox ju</body></message>";

/// The counts of `work`; of several runs the least, since the test harness may allocate beside it.
fn counted<T>(mut work: impl FnMut() -> T) -> Stats {
    (0..5)
        .map(|_| {
            let region = Region::new(COUNTED);
            let result = black_box(work());
            let stats = region.change();
            drop(result);
            stats
        })
        .min_by_key(|stats| stats.allocations + stats.reallocations)
        .expect("it was run")
}

/// Calls of the allocator that ask for memory.
fn calls(stats: Stats) -> usize {
    stats.allocations + stats.reallocations
}

/// Bytes that were asked for and not given back.
fn live(stats: Stats) -> isize {
    signed(stats.bytes_allocated) - signed(stats.bytes_deallocated)
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).expect("less than the address space")
}

fn open_reader(limits: Limits) -> StreamReader {
    let mut reader = StreamReader::new(limits);
    let mut input = HEADER;
    assert!(matches!(reader.next(&mut input), Ok(Some(Item::Header(_)))));
    reader
}

fn read_stanza(reader: &mut StreamReader, stamp: &Stamp<'_>, mut input: &[u8]) -> Stanza {
    match reader.next(&mut input) {
        Ok(Some(Item::Element(frame))) => frame.to_stanza(stamp).expect("it can be routed"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reading_allocates_only_what_is_kept() {
    assert_eq!(MESSAGE.len(), 242);
    let from = Jid::parse("romeo@example.net/orchard").unwrap();
    let stamp = Stamp {
        from: from.as_ref(),
        lang: None,
        is_ours: &|_| false,
    };
    let mut reader = open_reader(Limits::AUTHENTICATED);
    // The thread's stack grows once.
    let stanza = read_stanza(&mut reader, &stamp, MESSAGE.as_bytes());

    let message = counted(|| read_stanza(&mut reader, &stamp, MESSAGE.as_bytes()));
    assert!(
        calls(message) <= 4,
        "three of quick-xml and the copy: {message:?}"
    );
    let kept = live(message);
    assert_eq!(
        kept,
        signed(stanza.bytes().len()),
        "the copy has its exact size"
    );

    let spaces = counted(|| assert!(matches!(reader.next(&mut &[b' '; 100_000][..]), Ok(None))));
    assert_eq!(calls(spaces), 0, "X18: white space costs nothing");

    let header = counted(|| {
        black_box((
            stanza.to(),
            stanza.from(),
            stanza.id(),
            stanza.payload(),
            stanza.has_body(),
        ));
    });
    assert_eq!(calls(header), 0, "the index is no copy");

    let spliced = counted(|| stanza.with_to(from.as_ref()));
    assert_eq!(calls(spliced), 1, "a splice is one allocation");

    cut_elements_are_let_go(&mut reader, &stamp);
    unfinished_elements_cost_little();
    trees_cost_little();
}

fn cut_elements_are_let_go(reader: &mut StreamReader, stamp: &Stamp<'_>) {
    let cut = counted(|| {
        let (start, end) = MESSAGE.as_bytes().split_at(100);
        assert!(matches!(reader.next(&mut &start[..]), Ok(None)));
        drop(read_stanza(reader, stamp, end));
        // The end of the read.
        assert!(matches!(reader.next(&mut &b""[..]), Ok(None)));
    });
    assert_eq!(live(cut), 0, "nothing is kept of a cut element: {cut:?}");
}

/// Starts of elements that aim at much memory for few bytes.
fn shapes() -> Vec<(&'static str, String)> {
    let attributes = |from: usize| -> String {
        (from..from + 16)
            .map(|n| format!(" {n:x}a=''").replace(' ', " a"))
            .collect()
    };
    vec![
        ("one byte", "<".to_owned()),
        ("a name", "<aaaaaaaa".to_owned()),
        ("a long attribute", format!("<a b='{}", "x".repeat(16_000))),
        ("text", format!("<a>{}", "x".repeat(16_000))),
        ("wide text", format!("<a>{}", "\u{1f600}".repeat(4_000))),
        ("references", format!("<a>{}", "&lt;".repeat(4_000))),
        ("sections", format!("<a>{}", "<![CDATA[]]>".repeat(1_300))),
        ("small elements", format!("<a>{}", "<a/>".repeat(31))),
        ("deep elements", "<a>".repeat(8)),
        (
            "attributes",
            format!(
                "<a{}><b{}><c{}><d{}>",
                attributes(0),
                attributes(0),
                attributes(0),
                attributes(0)
            ),
        ),
        (
            "namespaces",
            (0..8)
                .map(|n| format!("<a xmlns:a='{n}' xmlns='{n}'>"))
                .collect(),
        ),
        (
            "namespaces with references",
            (0..8)
                .map(|n| format!("<a xmlns:a='&lt;{}' xmlns='&lt;{n}'>", "x".repeat(900)))
                .collect(),
        ),
    ]
}

/// X17 and the budget before login: at most four bytes of memory for a byte of input, and a box.
fn unfinished_elements_cost_little() {
    const BOX_BYTES_MAX: isize = 1_024;
    for (name, shape) in shapes() {
        for piece in [1, 100, 4_096, 16_384] {
            let mut reader = open_reader(Limits::PRE_AUTH);
            let region = Region::new(COUNTED);
            let mut fed = 0;
            for chunk in shape.as_bytes().chunks(piece) {
                let mut rest = chunk;
                assert!(matches!(reader.next(&mut rest), Ok(None)), "{name}");
                fed += signed(chunk.len());
                let live = live(region.change());
                assert!(
                    live <= 4 * fed + BOX_BYTES_MAX,
                    "{name}: {live} B for {fed} B of input"
                );
                let held = signed(reader.held_bytes());
                // The thread's own stack is beside it, once.
                assert!(
                    (held - live).abs() <= BOX_BYTES_MAX,
                    "{name}: {held} B told, {live} B held"
                );
            }
        }
    }
}

/// A tree is made only when somebody looks inside; before login it has few elements.
fn trees_cost_little() {
    const TREE_BYTES_MAX: isize = 16 * 1_024;
    // That one is refused when it is whole.
    let whole_shapes = shapes()
        .into_iter()
        .filter(|(name, _)| *name != "a long attribute");
    for (name, shape) in whole_shapes {
        let ends = ["</a>", "'/>", "/>", "></a>", "]]></a>", "</d></c></b></a>"].iter();
        let deep = "</a>".repeat(8);
        let whole = ends
            .copied()
            .chain([&*deep])
            .map(|end| format!("{shape}{end}"))
            .find(|xml| protocol::Element::parse(xml.as_bytes(), "jabber:client").is_ok());
        let Some(xml) = whole else {
            assert_eq!(name, "one byte");
            continue;
        };
        let mut reader = open_reader(Limits::PRE_AUTH);
        let tree = counted(|| match reader.next(&mut xml.as_bytes()) {
            Ok(Some(Item::Element(frame))) => frame.to_element(),
            other => panic!("{name}: {other:?}"),
        });
        let bytes = signed(xml.len());
        assert!(
            live(tree) <= 4 * bytes + TREE_BYTES_MAX,
            "{name}: {} B for {bytes} B",
            live(tree)
        );
    }
}
