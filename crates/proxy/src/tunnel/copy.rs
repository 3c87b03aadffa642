//! One direction of a tunnel: from a source to a sink, at the sink's pace.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes on their way from one side to the other.
#[derive(Debug)]
pub(super) struct Direction {
    /// What the sink has not taken yet.
    kept: Bytes,
    bytes: u64,
    state: State,
    is_stuck: bool,
    is_unflushed: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The source may have more.
    Open,
    /// The source has ended, the sink must learn of it.
    Ending,
    /// The sink knows.
    Ended,
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Source,
    Sink,
}

impl Direction {
    /// A direction in which `ahead` is on its way already.
    pub(super) const fn new(ahead: Bytes) -> Self {
        Self { kept: ahead, bytes: 0, state: State::Open, is_stuck: false, is_unflushed: false }
    }

    /// Bytes that the sink has taken.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when the sink takes nothing of what is there for it.
    pub(super) const fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// True when the source has ended.
    pub(super) const fn is_ended(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// Copies what can be copied now, by way of `room`; true when the source has ended and the sink knows.
    ///
    /// # Errors
    /// Which side failed.
    pub(super) fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut source: Pin<&mut R>,
        mut sink: Pin<&mut W>,
        room: &mut [u8],
    ) -> Result<bool, Fault> {
        for _ in 0..PIECES {
            if self.deliver(cx, sink.as_mut())?.is_pending() {
                return Ok(false);
            }
            if self.state != State::Open {
                return Ok(self.end(cx, sink));
            }
            let mut piece = ReadBuf::new(room);
            match source.as_mut().poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.state = State::Ending,
                Poll::Ready(Ok(())) => self.pass(cx, sink.as_mut(), piece.filled())?,
                Poll::Ready(Err(_)) => return Err(Fault::Source),
                Poll::Pending => return self.flush(cx, sink).map(|()| false),
            }
        }
        // Others want to be served, too.
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Gives the sink what is kept.
    fn deliver<W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: Pin<&mut W>,
    ) -> Result<Poll<()>, Fault> {
        while !self.kept.is_empty() {
            match self.write(cx, sink.as_mut(), &self.kept.clone())? {
                0 => return Ok(Poll::Pending),
                went => self.kept.advance(went),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Gives the sink what was just read, and keeps what it does not take.
    fn pass<W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        sink: Pin<&mut W>,
        piece: &[u8],
    ) -> Result<(), Fault> {
        let went = self.write(cx, sink, piece)?;
        self.kept = Bytes::copy_from_slice(piece.get(went..).unwrap_or_default());
        Ok(())
    }

    /// How much the sink took; nothing when it takes nothing now.
    fn write<W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        sink: Pin<&mut W>,
        piece: &[u8],
    ) -> Result<usize, Fault> {
        match sink.poll_write(cx, piece) {
            Poll::Ready(Ok(0) | Err(_)) => Err(Fault::Sink),
            Poll::Ready(Ok(went)) => {
                self.bytes += went as u64;
                (self.is_stuck, self.is_unflushed) = (false, true);
                Ok(went)
            }
            Poll::Pending => {
                self.is_stuck = true;
                Ok(0)
            }
        }
    }

    /// What the sink took must arrive, too: it may keep it back for more.
    fn flush<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, sink: Pin<&mut W>) -> Result<(), Fault> {
        if !self.is_unflushed {
            return Ok(());
        }
        match sink.poll_flush(cx) {
            Poll::Ready(Ok(())) => (self.is_stuck, self.is_unflushed) = (false, false),
            Poll::Ready(Err(_)) => return Err(Fault::Sink),
            Poll::Pending => self.is_stuck = true,
        }
        Ok(())
    }

    /// True when the sink knows of the end; one that is gone need not.
    fn end<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, sink: Pin<&mut W>) -> bool {
        if self.state == State::Ending && sink.poll_shutdown(cx).is_ready() {
            self.state = State::Ended;
        }
        self.state == State::Ended
    }
}

/// How many pieces are copied before it is somebody else's turn.
const PIECES: usize = 8;

#[cfg(test)]
mod tests;
