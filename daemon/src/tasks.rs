//! The one place that starts tasks: each has a name, is counted, and can be waited for and cut.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use slab::Slab;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;

/// The tasks of one daemon. Clones share the same set.
///
/// A task that was spawned here is waited for by [`Shutdown::drain`](crate::Shutdown::drain), and aborted
/// when the deadline of the drain passes. Cost per live task, beside the task itself: 64 bytes.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Running>,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `future` as a task. `name` says in the log what was cut if the task outlives a drain.
    ///
    /// Dropping the returned handle leaves the task running.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let entry = Running::enter(&self.running, name);
        let (index, serial) = (entry.index, entry.serial);
        let named = Named { future, entry };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
        let handle = tokio::spawn(self.tracker.track_future(named));
        self.running
            .set_abort(index, serial, &handle.abort_handle());
        handle
    }

    /// How many tasks run now.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs now.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// How many tasks run now, by name.
    pub fn names(&self) -> BTreeMap<&'static str, usize> {
        let mut names = BTreeMap::new();
        for (_, slot) in &self.running.slots.lock().slots {
            *names.entry(slot.name).or_default() += 1;
        }
        names
    }

    /// Waits until no task is left. Tasks that start meanwhile are waited for too.
    pub(crate) async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Aborts every task that is left, and every one that is spawned later. They end at their next `.await`.
    pub(crate) fn abort(&self) {
        // The handles are taken out first: aborting an idle task drops its future, which locks the slots.
        let handles: Vec<AbortHandle> = {
            let mut slots = self.running.slots.lock();
            slots.aborted = true;
            let taken = slots.slots.iter_mut();
            taken.filter_map(|(_, slot)| slot.abort.take()).collect()
        };
        for handle in handles {
            handle.abort();
        }
    }
}

/// What runs now: a name and a way to abort, per task.
#[derive(Default)]
struct Running {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    slots: Slab<Slot>,
    /// The serial number of the next task; wraps. It tells a slot's tenants apart.
    next_serial: u32,
    /// All were aborted: what starts from now on is aborted too.
    aborted: bool,
}

struct Slot {
    name: &'static str,
    serial: u32,
    abort: Option<AbortHandle>,
}

impl Running {
    fn enter(running: &Arc<Self>, name: &'static str) -> Entry {
        let mut slots = running.slots.lock();
        let serial = slots.next_serial;
        slots.next_serial = serial.wrapping_add(1);
        let index = slots.slots.insert(Slot {
            name,
            serial,
            abort: None,
        });
        drop(slots);
        Entry {
            running: Arc::clone(running),
            index,
            serial,
        }
    }

    /// Keeps the abort handle, unless the task ended before we came here and its slot is free or let again.
    fn set_abort(&self, index: usize, serial: u32, handle: &AbortHandle) {
        let mut slots = self.slots.lock();
        if slots.aborted {
            drop(slots);
            handle.abort();
        } else if let Some(slot) = slots.slots.get_mut(index)
            && slot.serial == serial
        {
            slot.abort = Some(handle.clone());
        }
    }
}

/// A task's place among the running ones; dropped with its future.
struct Entry {
    running: Arc<Running>,
    index: usize,
    serial: u32,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nothing is dropped under the lock but an abort handle, which only counts references.
        let _slot = self.running.slots.lock().slots.try_remove(self.index);
    }
}

pin_project! {
    /// A future with its entry. A struct, since an `async` block would hold the future twice.
    struct Named<F> {
        #[pin]
        future: F,
        entry: Entry,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn a_finished_task_leaves_no_trace() {
        let tasks = Tasks::new();
        let answer = tasks.spawn("answer", async { 42 }).await.unwrap();
        tasks.finished().await;
        assert_eq!(answer, 42);
        assert!(tasks.is_empty());
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn tasks_are_counted_by_name_and_end_when_aborted() {
        let tasks = Tasks::new();
        let one = tasks.spawn("session", pending::<()>());
        let two = tasks.spawn("session", pending::<()>());
        let other = tasks.spawn("janitor", pending::<()>());
        assert_eq!(
            tasks.names(),
            BTreeMap::from([("janitor", 1), ("session", 2)])
        );
        assert_eq!(tasks.len(), 3);

        tasks.abort();
        for handle in [one, two, other] {
            assert!(handle.await.unwrap_err().is_cancelled());
        }
        tasks.finished().await;
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn what_is_spawned_after_an_abort_is_aborted() {
        let tasks = Tasks::new();
        tasks.abort();
        let late = tasks.spawn("late", pending::<()>());
        assert!(late.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_frees_the_entry() {
        let tasks = Tasks::new();
        let handle = tasks.spawn("broken", async { panic!("on purpose") });
        assert!(handle.await.unwrap_err().is_panic());
        tasks.finished().await;
        assert!(tasks.names().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn entries_of_short_tasks_are_not_mixed_up() {
        let tasks = Tasks::new();
        let kept = tasks.spawn("kept", pending::<()>());
        for _ in 0..1_000 {
            tasks.spawn("short", async {});
        }
        // Short tasks may still run; the one that must be abortable is.
        tasks.abort();
        assert!(kept.await.unwrap_err().is_cancelled());
        tasks.finished().await;
        assert!(tasks.names().is_empty());
    }

    /// The wrapper costs an entry and no second copy of the future.
    #[test]
    fn size_of_a_named_future() {
        assert_eq!(size_of::<Named<[u8; 1024]>>(), 1024 + size_of::<Entry>());
        assert_eq!(size_of::<Entry>(), 24);
        assert_eq!(size_of::<Slot>(), 32);
    }
}
