//! Children that only servers add, which are therefore removed from what clients send.
//!
//! A client that could add them would speak in the server's name: spoof a copy of a message (XEP-0280), a result of
//! the archive (XEP-0313), an archive id (XEP-0359), a time of delivery (XEP-0203), an occupant's identity (XEP-0421,
//! XEP-0045) or a stream's counters (XEP-0198). [`TABLE`] is the one list.
use crate::{Element, Jid, ns};

/// Who has sent a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A client: all of the table holds.
    Client,
    /// A service, which may be a room or have an archive.
    Service,
}

/// What rooms and their archives say themselves.
const OF_SERVICES: [&str; 3] = [ns::ARCHIVE, ns::OCCUPANT_ID, ns::MUC_USER];

/// When a child with the row's name is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Always,
    /// If this attribute is an address of ours.
    IfOurs(&'static str),
    /// Unless it has one of these children: then the client asks a room for something.
    Unless(&'static [&'static str]),
}

/// Name (any name of that namespace if it is empty), namespace, and when it is removed.
pub(super) const TABLE: &[(&str, &str, Removed)] = &[
    ("stanza-id", ns::STANZA_ID, Removed::IfOurs("by")),
    ("delay", ns::DELAY, Removed::IfOurs("from")),
    ("sent", ns::CARBONS, Removed::Always),
    ("received", ns::CARBONS, Removed::Always),
    ("result", ns::ARCHIVE, Removed::Always),
    ("fin", ns::ARCHIVE, Removed::Always),
    ("", ns::STREAM_MANAGEMENT, Removed::Always),
    ("occupant-id", ns::OCCUPANT_ID, Removed::Always),
    ("x", ns::MUC_USER, Removed::Unless(&["invite", "decline"])),
];

/// A child with this name may have to be removed.
pub(crate) fn is_candidate(name: &str, ns: &[u8]) -> bool {
    TABLE.iter().any(|(row_name, row_ns, _)| {
        (row_name.is_empty() || *row_name == name) && row_ns.as_bytes() == ns
    })
}

/// `child` has to be removed; `is_ours` is asked about bare addresses in normal form.
fn is_removed(child: &Element, sender: Sender, is_ours: &dyn Fn(&str) -> bool) -> bool {
    if sender == Sender::Service && OF_SERVICES.contains(&child.ns()) {
        return false;
    }
    let row = TABLE.iter().find(|(row_name, row_ns, _)| {
        (row_name.is_empty() || *row_name == child.name()) && *row_ns == child.ns()
    });
    match row {
        None => false,
        Some((_, _, Removed::Always)) => true,
        Some((_, _, Removed::IfOurs(attribute))) => {
            child.attr(attribute).is_some_and(|text| {
                // Another spelling of our address is read as ours by whoever normalises it.
                match Jid::parse(text) {
                    Ok(jid) => is_ours(jid.bare_str()),
                    Err(_) => is_ours(text),
                }
            })
        }
        Some((_, ns, Removed::Unless(names))) => {
            !names.iter().any(|name| child.child(name, ns).is_some())
        }
    }
}

/// Removes them. `true` if there were any.
pub(crate) fn remove(stanza: &mut Element, sender: Sender, is_ours: &dyn Fn(&str) -> bool) -> bool {
    let mut removed = false;
    stanza.retain_elements(|child| {
        let is_kept = !is_removed(child, sender, is_ours);
        removed |= !is_kept;
        is_kept
    });
    removed
}
