//! What became of stanzas that somebody pushed and still has: read from a store, or sent at the client's pace.
//!
//! A stanza is pushed with a [`Receipt`]. When its client has acknowledged it (without stream management: when its
//! bytes are written), the receipt is *taken*; when the session ends before, it is *returned*, by being dropped. So no
//! way that a stanza can take through an outlet loses a receipt.
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The receipts of one sender, who alone waits for them.
#[derive(Debug, Default)]
pub struct Receipts {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    outstanding: usize,
    taken: Vec<i64>,
    returned: usize,
}

/// Goes along with one stanza.
#[derive(Debug)]
pub struct Receipt {
    id: i64,
    receipts: Arc<Receipts>,
    is_taken: bool,
}

/// What has happened since the sender last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Ids of the receipts that were taken, in their order.
    pub taken: Vec<i64>,
    /// How many came back.
    pub returned: usize,
    /// How many are still under way.
    pub outstanding: usize,
}

impl Receipts {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A receipt for one stanza; `id` is the sender's own word for it.
    pub fn receipt(self: &Arc<Self>, id: i64) -> Receipt {
        self.state.lock().outstanding += 1;
        Receipt {
            id,
            receipts: self.clone(),
            is_taken: false,
        }
    }

    /// What has happened since the last call.
    pub fn progress(&self) -> Progress {
        let mut state = self.state.lock();
        Progress {
            taken: std::mem::take(&mut state.taken),
            returned: std::mem::take(&mut state.returned),
            outstanding: state.outstanding,
        }
    }

    /// Waits until something has happened since the last call of [`Self::progress`]. May return early.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Receipt {
    /// The client has the stanza.
    pub fn taken(mut self) {
        self.is_taken = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let mut state = self.receipts.state.lock();
        state.outstanding = state.outstanding.saturating_sub(1);
        if self.is_taken {
            state.taken.push(self.id);
        } else {
            state.returned += 1;
        }
        drop(state);
        self.receipts.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_receipt_is_taken_or_comes_back() {
        let receipts = Receipts::new();
        let [one, two, three] = [1, 2, 3].map(|id| receipts.receipt(id));
        assert_eq!(receipts.progress().outstanding, 3);
        two.taken();
        drop(one);
        receipts.changed().await;
        let progress = Progress {
            taken: vec![2],
            returned: 1,
            outstanding: 1,
        };
        assert_eq!(receipts.progress(), progress);
        three.taken();
        receipts.changed().await;
        assert_eq!(receipts.progress().taken, [3]);
        assert_eq!(receipts.progress(), Progress::default());
    }

    #[test]
    fn a_receipt_is_small() {
        assert!(size_of::<Option<Receipt>>() <= 24);
    }
}
