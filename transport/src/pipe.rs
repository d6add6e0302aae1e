//! A connection inside of the process, for streams that are carried by something that is none (XEP-0124).
//!
//! The near end looks like a socket. Its far end takes bytes only when it can carry them, and a write counts as done
//! only when the far end says that they have arrived at the client: until then whoever writes still has them. As with
//! any socket that refuses bytes, they are offered again, the same ones from the first that was refused.
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The end that is read and written like a socket.
#[derive(Debug)]
pub struct NearEnd(Arc<Pipe>);

/// The end that carries the bytes.
#[derive(Debug)]
pub struct FarEnd(Arc<Pipe>);

#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<State>,
    /// Something has changed that the far end may want to know.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    // From far to near.
    inbound: Vec<u8>,
    /// How many of them were read.
    read: usize,
    /// Nothing follows what is there; when it is read, nothing can be written any more.
    is_closing: bool,
    reader: Option<Waker>,
    // From near to far.
    /// What the far end was given and has not taken.
    outbound: Vec<u8>,
    /// The far end can carry something.
    is_wanted: bool,
    /// Something waits that was not given.
    has_more: bool,
    /// Of the bytes that are offered next, so many from the first on were given to the far end.
    given: usize,
    /// Of these, so many have arrived.
    arrived: usize,
    /// A write may get on.
    is_ready: bool,
    writer: Option<Waker>,
    is_broken: bool,
    is_near_closed: bool,
}

/// Two ends of a new pipe.
pub fn pipe() -> (NearEnd, FarEnd) {
    let pipe = Arc::new(Pipe::default());
    (NearEnd(pipe.clone()), FarEnd(pipe))
}

impl State {
    fn has_ended(&self) -> bool {
        self.is_closing || self.is_broken || self.is_near_closed
    }

    fn unread(&self) -> usize {
        self.inbound.len() - self.read
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        self.is_ready = true;
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn break_off(&mut self) {
        self.is_broken = true;
        self.wake_writer();
        self.wake_reader();
    }
}

impl NearEnd {
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.lock();
        if state.unread() > 0 || state.has_ended() {
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.lock();
        if state.is_ready || state.is_broken {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        let unread = state.inbound.get(state.read..).unwrap_or_default();
        if unread.is_empty() {
            return if state.has_ended() {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let count = unread.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(unread) {
            *slot = *byte;
        }
        state.read += count;
        if state.unread() == 0 {
            // An idle client holds nothing.
            state.inbound = Vec::new();
            state.read = 0;
            if state.is_closing {
                state.break_off();
            }
            drop(state);
            self.0.changed.notify_waiters();
        }
        Ok(count)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.is_broken || state.is_near_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let done = state.arrived.min(bytes.len());
        state.arrived -= done;
        state.given -= done;
        let rest = bytes.get(done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(done);
        }
        state.is_ready = false;
        let fresh = rest.get(state.given..).unwrap_or_default();
        if !fresh.is_empty() {
            if state.is_wanted {
                state.outbound.extend_from_slice(fresh);
                state.given = rest.len();
            }
            state.has_more = !state.is_wanted;
            drop(state);
            self.0.changed.notify_waiters();
        }
        if done == 0 {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(done)
        }
    }

    /// More waits than what was offered last.
    pub(crate) fn has_more(&self) {
        self.0.state.lock().has_more = true;
        self.0.changed.notify_waiters();
    }

    /// There is no half of a pipe: nothing more is read either.
    pub(crate) fn shutdown_write(&self) {
        let mut state = self.0.state.lock();
        state.is_near_closed = true;
        state.inbound = Vec::new();
        state.read = 0;
        state.wake_reader();
        drop(state);
        self.0.changed.notify_waiters();
    }
}

impl Drop for NearEnd {
    fn drop(&mut self) {
        self.shutdown_write();
    }
}

impl FarEnd {
    /// Gives bytes to the near end. How much may wait there is for the caller to decide, by [`Self::unread`].
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        if state.has_ended() || bytes.is_empty() {
            return;
        }
        state.inbound.extend_from_slice(bytes);
        state.wake_reader();
    }

    /// Bytes that the near end has not read.
    pub fn unread(&self) -> usize {
        self.0.state.lock().unread()
    }

    /// The near end reads what is there, and then the end; from there on it cannot write.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.is_closing = true;
        if state.unread() == 0 {
            state.break_off();
        } else {
            state.wake_reader();
        }
    }

    /// The near end cannot write any more, and reads no further than what is there.
    pub fn break_off(&self) {
        self.0.state.lock().break_off();
    }

    /// Says whether bytes can be carried now. Those that wait are given as soon as they are offered again.
    pub fn want(&self, is_wanted: bool) {
        let mut state = self.0.state.lock();
        if is_wanted && !state.is_wanted {
            state.wake_writer();
        }
        state.is_wanted = is_wanted;
    }

    /// Whether something waits that was not given.
    pub fn has_more(&self) -> bool {
        self.0.state.lock().has_more
    }

    /// Takes the bytes that were given.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.state.lock().outbound)
    }

    /// So many more bytes have arrived at the client.
    pub fn arrived(&self, count: usize) {
        let mut state = self.0.state.lock();
        state.arrived = state.arrived.saturating_add(count).min(state.given);
        state.wake_writer();
    }

    /// All bytes that were given count as arrived: nobody would have any use for them.
    pub fn all_arrived(&self) {
        self.arrived(usize::MAX);
    }

    /// Whether the near end has closed: nothing follows what can be taken.
    pub fn is_near_closed(&self) -> bool {
        self.0.state.lock().is_near_closed
    }

    /// Notified when bytes were given or wait to be, all was read, or the near end has closed.
    pub fn changed(&self) -> &Notify {
        &self.0.changed
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.break_off();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often somebody is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_blocked(result: io::Result<usize>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_broken(result: io::Result<usize>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    #[test]
    fn what_is_pushed_is_read_in_pieces_and_then_nothing_is_held() {
        let (near, far) = pipe();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut buffer = [0; 4];
        assert!(is_blocked(near.try_read(&mut buffer)));
        assert!(near.poll_readable(&mut cx).is_pending());
        far.push(b"abcdef");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(near.poll_readable(&mut cx).is_ready());
        assert_eq!(near.try_read(&mut buffer).unwrap(), 4);
        assert_eq!((&buffer, far.unread()), (b"abcd", 2));
        assert_eq!(near.try_read(&mut buffer).unwrap(), 2);
        assert_eq!(far.0.state.lock().inbound.capacity(), 0);
        assert!(is_blocked(near.try_read(&mut buffer)));
    }

    #[test]
    fn a_write_is_done_when_it_has_arrived() {
        let (near, far) = pipe();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(is_blocked(near.try_write(b"one")));
        assert!(far.take().is_empty(), "nobody can carry it");
        assert!(near.poll_writable(&mut cx).is_pending());
        far.want(true);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(near.poll_writable(&mut cx).is_ready());
        assert!(is_blocked(near.try_write(b"one")), "it is under way");
        assert!(near.poll_writable(&mut cx).is_pending(), "no endless loop");
        assert_eq!(far.take(), b"one");
        far.want(false);
        assert!(is_blocked(near.try_write(b"one")));
        far.arrived(2);
        assert_eq!(near.try_write(b"one").unwrap(), 2);
        assert!(is_blocked(near.try_write(b"e")));
        far.arrived(1);
        assert_eq!(near.try_write(b"e").unwrap(), 1);
        // Nothing is given twice.
        far.want(true);
        assert!(is_blocked(near.try_write(b"two")));
        assert!(is_blocked(near.try_write(b"two")));
        assert_eq!(far.take(), b"two");
        // More than was given never counts.
        far.all_arrived();
        assert!(!far.has_more());
        far.want(false);
        near.has_more();
        assert!(far.has_more(), "though it is not offered yet");
        far.want(true);
        assert_eq!(near.try_write(b"twothree").unwrap(), 3);
        assert!(!far.has_more());
        assert_eq!(far.take(), b"three");
        assert!(is_blocked(near.try_write(b"three")));
    }

    #[test]
    fn the_far_end_closes_when_all_is_read() {
        let (near, far) = pipe();
        far.push(b"last");
        far.close();
        far.push(b"too late");
        assert!(is_blocked(near.try_write(b"a")), "it may still be heard");
        let mut buffer = [0; 16];
        assert_eq!(near.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(near.try_read(&mut buffer).unwrap(), 0);
        assert!(is_broken(near.try_write(b"a")));
        let (near, far) = pipe();
        far.push(b"last");
        drop(far);
        assert!(is_broken(near.try_write(b"a")));
        assert_eq!(near.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(near.try_read(&mut buffer).unwrap(), 0);
    }

    #[tokio::test]
    async fn the_near_end_closes_when_it_is_dropped() {
        let (near, far) = pipe();
        let mut changed = std::pin::pin!(far.changed().notified());
        changed.as_mut().enable();
        far.push(b"nobody reads it");
        assert!(!far.is_near_closed());
        drop(near);
        changed.await;
        assert!(far.is_near_closed());
        assert_eq!(far.unread(), 0);
    }
}
