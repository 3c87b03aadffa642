//! The end of a core: its connections are told to go, waited for, and cut at the deadline.
//!
//! What another core handed over, and what is still in its handshake, is waited for like the rest: both count as connections
//! from the moment at which they were accepted.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval};

use super::{Command, Core, Drain, Pace};
use crate::connection;

/// Ends all connections: gracefully at their time, by force at the deadline.
pub(super) async fn end_connections(
    core: &Rc<Core>,
    inbox: &mut UnboundedReceiver<Command>,
    Drain { deadline, pace }: Drain,
) {
    core.gate.loads.close(core.id);
    core.draining.set(pace == Pace::AtOnce);
    let began = Instant::now();
    let mut ticks = interval(STEP);
    let mut judged = began;
    loop {
        while let Ok(command) = inbox.try_recv() {
            if let Command::Adopt(arrival) = command {
                connection::adopt(core, arrival);
            }
        }
        let now = Instant::now();
        let passed = now.saturating_duration_since(began);
        tell(core, pace, deadline, passed);
        if core.gate.loads.connections(core.id) == 0 {
            return;
        }
        if passed >= deadline {
            break;
        }
        // Who is slow, stalled or proves nothing any more is ended as ever.
        if now.saturating_duration_since(judged) >= super::TICK {
            super::tick(core);
            judged = now;
        }
        ticks.tick().await;
    }
    let left = core.connections.borrow().len();
    tracing::warn!(core = core.id.index(), left, "the deadline passed: cutting what is left");
    for (_, connection) in core.connections.borrow().iter() {
        connection.cut();
    }
    tokio::task::yield_now().await;
}

/// Tells those to go whose time has come when this much of the deadline has passed.
fn tell(core: &Core, pace: Pace, deadline: Duration, passed: Duration) {
    let connections = core.connections.borrow();
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX);
    for (at, (_, connection)) in (0_u32..).zip(connections.iter()) {
        let is_due = match pace {
            Pace::AtOnce => true,
            // The last ones have a quarter of the deadline left for their requests.
            Pace::Spread => {
                passed >= deadline / 2 + deadline.saturating_mul(at) / count.saturating_mul(4).max(1)
                    || (connection.is_idle() && !connection.is_http2())
                    || connection.is_quiet(core.tick())
            }
        };
        if is_due && !connection.is_ending() {
            connection.finish();
        }
    }
}

const STEP: Duration = Duration::from_millis(20);
