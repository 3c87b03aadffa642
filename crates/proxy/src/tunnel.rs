//! Tunnels: what a connection, or a stream of one, is once both sides agreed to speak something else than HTTP.
//!
//! A tunnel lives under its permit's lease like a streamed answer, and in its place: it counts as a request in flight of its
//! route and its connection until it ends. It ends with the lease, when both sides have been silent for the upstream's idle
//! time or one of them takes nothing for as long, shortly after either side has ended, and at the first quiet second
//! of a connection that was asked to end. Nothing is said to the peers then: only they know where a message of theirs ends.
//!
//! Memory: an idle tunnel has no buffers. What one side does not take is kept, at most one [`PIECE`] each way, and nothing is
//! read from the other until it is taken.

mod copy;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper_util::rt::TokioIo;
use telemetry::OpenTunnel;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::body::{Progress, ResponseBody};
use crate::connection::{Connection, LINGER};
use crate::core::Core;
use crate::forward::{X_REQUEST_ID, id_value};
use crate::lease::{LEASE_ENDED, LeaseInUse};
use crate::normalize::fields::remove_hop_by_hop;
use crate::record::Record;
use crate::upgrade::Upgrade;
use crate::upstream::{Answer, Returning, Transport};
use copy::{Direction, Fault};

/// An upgrade that both sides agreed to; its drop says in the record how it ended.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The upstream, and what was read of it ahead.
    upstream: Option<(Transport, Bytes)>,
    lease: LeaseInUse,
    pulse: Rc<Pulse>,
    core: Rc<Core>,
    from_client: Rc<Progress>,
    /// Counts as a request of its upstream until the end.
    _connection: Returning,
    _slot: Option<limit::Slot>,
    _open: Option<OpenTunnel>,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// A side broke off.
    Broken(Side),
    /// The connection was asked to end.
    Drained,
    /// Nobody said anything.
    Idle,
    /// So did the authority under which it was opened.
    Lease,
    /// A side takes nothing.
    Stalled(Side),
    /// Both sides said all they had to say.
    Whole,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Client,
    Upstream,
}

/// Opens the tunnel that an upstream agreed to, and says so to the client. Over HTTP/1.1 the connection takes it over when hyper
/// has written that; over HTTP/2 it gets a task of its own.
pub(crate) fn open(
    answer: Answer,
    upgrade: Upgrade,
    slot: Option<limit::Slot>,
    mut record: Record,
) -> Response<ResponseBody> {
    let Answer { response, lease, mut connection } = answer;
    let upstream = connection.take_over();
    let (mut head, _) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let (status, stream) = upgrade.tell(&mut head.headers);
    head.status = status;
    head.extensions.clear();
    head.headers.insert(X_REQUEST_ID, id_value(&record.trace.trace.encode()));
    record.status = status.as_u16();
    record.answered_after = Some(record.began.elapsed());
    let from_client = Rc::<Progress>::default();
    record.sent = Some(from_client.clone());
    let (core, client) = (record.core.clone(), record.connection.clone());
    let series = record.route.and_then(|index| record.snapshot.route(index)).map(|route| &route.series);
    let tunnel = Tunnel {
        upstream,
        pulse: Rc::new(Pulse::new(&core, connection.silence(), client.clone())),
        _open: series.map(|series| series.tunnel(core.id.index())),
        lease: LeaseInUse::new(lease, record),
        core: core.clone(),
        from_client,
        _connection: connection,
        _slot: slot,
    };
    match stream {
        None => client.switch(tunnel),
        Some(stream) => {
            core.tasks.spawn_local(async move {
                if let Ok(stream) = stream.await {
                    tunnel.run(TokioIo::new(stream), Bytes::new()).await;
                }
            });
        }
    }
    Response::from_parts(head, ResponseBody::Switched)
}

impl Tunnel {
    /// Copies both ways until the end; `ahead` came from the client before.
    pub(crate) async fn run<C>(mut self, client: C, ahead: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let end = match self.upstream.take() {
            Some(upstream) => self.join((client, ahead), upstream).await,
            None => End::Broken(Side::Upstream),
        };
        self.pulse.end.set(Some(end));
    }

    async fn join<C>(
        &self,
        (mut client, said): (C, Bytes),
        (mut upstream, answered): (Transport, Bytes),
    ) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { core, pulse, .. } = self;
        let _watched = Watched::new(core, pulse);
        let mut lease = pin!(self.lease.ended());
        let (mut out, mut back) = (Direction::new(said), Direction::new(answered));
        poll_fn(|cx| {
            if lease.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Lease);
            }
            pulse.wake_by(cx);
            if let Some(end) = pulse.end.get() {
                return Poll::Ready(end);
            }
            let before = (out.bytes(), back.bytes());
            let sides = (Pin::new(&mut client), Pin::new(&mut upstream));
            let ends = both(cx, (&mut out, &mut back), sides, &mut core.read_buffer.borrow_mut());
            self.from_client.add(out.bytes() - before.0);
            self.lease.record().bytes_out += back.bytes() - before.1;
            pulse.beat(core.tick(), before != (out.bytes(), back.bytes()), &out, &back);
            match ends {
                Ok(true) => Poll::Ready(End::Whole),
                Ok(false) => Poll::Pending,
                // After one side's end the other's is none of its faults.
                Err(_) if out.is_ended() || back.is_ended() => Poll::Ready(End::Whole),
                Err(side) => Poll::Ready(End::Broken(side)),
            }
        })
        .await
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut record = self.lease.record();
        let Some(end) = self.pulse.end.get() else { return };
        record.complete = end == End::Whole;
        record.code = match end {
            End::Whole | End::Broken(Side::Client) => None,
            End::Broken(Side::Upstream) => Some("UPSTREAM_BROKE_OFF"),
            End::Drained => Some("CONNECTION_ENDED"),
            End::Idle => Some("TUNNEL_IDLE"),
            End::Lease => Some(LEASE_ENDED),
            End::Stalled(Side::Client) => Some("CLIENT_STALLED"),
            End::Stalled(Side::Upstream) => Some("UPSTREAM_STALLED"),
        };
    }
}

/// Copies what can be copied now; true when both directions have ended.
fn both<C, U>(
    cx: &mut Context<'_>,
    (out, back): (&mut Direction, &mut Direction),
    (mut client, mut upstream): (Pin<&mut C>, Pin<&mut U>),
    room: &mut [u8],
) -> Result<bool, Side>
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let outward = |fault| if fault == Fault::Source { Side::Client } else { Side::Upstream };
    let inward = |fault| if fault == Fault::Source { Side::Upstream } else { Side::Client };
    let has_gone = out.poll(cx, client.as_mut(), upstream.as_mut(), room).map_err(outward)?;
    let has_come = back.poll(cx, upstream, client, room).map_err(inward)?;
    Ok(has_gone && has_come)
}

/// What tells whether a tunnel lives, where its core finds it.
#[derive(Debug)]
pub(crate) struct Pulse {
    connection: Rc<Connection>,
    silence: Duration,
    moved: Cell<Instant>,
    /// Since when a side takes nothing of what is kept for it.
    stalled: [Cell<Option<Instant>>; 2],
    /// Since when one side has ended.
    closing: Cell<Option<Instant>>,
    end: Cell<Option<End>>,
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    fn new(core: &Core, silence: Duration, connection: Rc<Connection>) -> Self {
        Self {
            connection,
            silence,
            moved: Cell::new(core.tick()),
            stalled: [Cell::new(None), Cell::new(None)],
            closing: Cell::new(None),
            end: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Ends what must end; looked at with each tick.
    pub(crate) fn judge(&self, now: Instant) {
        let is_late = |since: Instant, bound: Duration| now.saturating_duration_since(since) > bound;
        let is_stalled =
            |side: &Cell<Option<Instant>>| side.get().is_some_and(|since| is_late(since, self.silence));
        let [upstream, client] = &self.stalled;
        if self.end.get().is_some() {
            return;
        }
        let end = if self.connection.is_cut() {
            if self.connection.is_stalled() { End::Stalled(Side::Client) } else { End::Drained }
        } else if self.closing.get().is_some_and(|since| is_late(since, LINGER)) {
            End::Whole
        } else if is_stalled(client) {
            // The connection still holds a piece for the stream: it ends too.
            self.connection.finish();
            End::Stalled(Side::Client)
        } else if is_stalled(upstream) {
            End::Stalled(Side::Upstream)
        } else if is_late(self.moved.get(), self.silence) {
            End::Idle
        } else if self.connection.is_ending() && is_late(self.moved.get(), QUIET) {
            End::Drained
        } else {
            return;
        };
        self.end.set(Some(end));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes note of what came of copying.
    fn beat(&self, tick: Instant, is_moving: bool, out: &Direction, back: &Direction) {
        if is_moving {
            self.moved.set(tick);
        }
        for (since, direction) in self.stalled.iter().zip([out, back]) {
            match (direction.is_stuck(), since.get()) {
                (false, _) => since.set(None),
                (true, None) => since.set(Some(tick)),
                (true, Some(_)) => {}
            }
        }
        if self.closing.get().is_none() && (out.is_ended() || back.is_ended()) {
            self.closing.set(Some(tick));
        }
    }

    fn wake_by(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// A tunnel among those of its core, until dropped.
struct Watched<'a> {
    core: &'a Core,
    place: usize,
}

impl<'a> Watched<'a> {
    fn new(core: &'a Core, pulse: &Rc<Pulse>) -> Self {
        Self { core, place: core.tunnels.borrow_mut().insert(pulse.clone()) }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.core.tunnels.borrow_mut().try_remove(self.place);
    }
}

/// How much is read at once, of tunnels and of upstreams over HTTP/1.1; and at most kept each way of a tunnel.
pub(crate) const PIECE: usize = 16 * 1024;
/// How long nothing is said in a tunnel before it may be closed between two messages.
const QUIET: Duration = Duration::from_secs(1);
