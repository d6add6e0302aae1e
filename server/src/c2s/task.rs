//! One connection from accept to end, as a future of its own.
//!
//! There is one for every idle session, so it holds nothing but the session then; what waits in its middle is boxed
//! and gone afterwards.
use std::pin::Pin;
use std::task::{Context, Poll};

use super::session::Session;

/// The task of a connection. `place` is held until its end.
pub struct ConnectionTask<P> {
    now: Now,
    _place: P,
}

enum Now {
    /// Negotiation, a handler that waits, the end: gives out the session if it goes on.
    Busy(Busy),
    /// A bound session waits for its client, or for an order.
    Idle(Box<Session>),
    Over,
}

/// Something of a connection that waits in its middle.
pub type Busy = Pin<Box<dyn Future<Output = Option<Box<Session>>> + Send>>;

impl<P> ConnectionTask<P> {
    /// Begins with the negotiation, which gives out the session if there is one.
    pub fn new(negotiation: Busy, place: P) -> Self {
        Self {
            now: Now::Busy(negotiation),
            _place: place,
        }
    }
}

impl<P: Unpin> Future for ConnectionTask<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.now = match std::mem::replace(&mut self.now, Now::Over) {
                Now::Busy(mut busy) => match busy.as_mut().poll(cx) {
                    Poll::Ready(Some(session)) => Now::Idle(session),
                    Poll::Ready(None) => Now::Over,
                    Poll::Pending => {
                        self.now = Now::Busy(busy);
                        return Poll::Pending;
                    }
                },
                Now::Idle(mut session) => match session.poll_work(cx) {
                    Poll::Ready(work) => Now::Busy(Box::pin(session.go_on(work))),
                    Poll::Pending => {
                        self.now = Now::Idle(session);
                        return Poll::Pending;
                    }
                },
                Now::Over => return Poll::Ready(()),
            };
        }
    }
}
