//! What frames an HTTP/2 connection is made of, counted above TLS by their nine-byte headers (RFC 9113 section 4.1).
//!
//! hyper answers PING, SETTINGS and its like without telling anybody. A peer that sends many frames that ask for no answer
//! it is given (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316 and their kin) fills a bucket, which empties
//! with time and with each HEADERS or DATA frame that goes back; when it overflows, the connection is closed. A client that
//! pings for days, acknowledges every DATA frame twice or cancels a page full of requests stays far below.

use std::time::Duration;

use tokio::time::Instant;

/// The frames of one connection, both ways.
#[derive(Debug)]
pub(super) struct Frames {
    inbound: Cursor,
    outbound: Cursor,
    /// A header block waits for its CONTINUATION.
    is_block_open: bool,
    last_stream: u32,
    /// Frames that nothing has paid for yet.
    level: u32,
    emptied: Instant,
}

impl Frames {
    /// None so far; the client's preface comes first (RFC 9113 section 3.4).
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            inbound: Cursor { header: [0; HEADER], have: 0, payload: PREFACE },
            outbound: Cursor { header: [0; HEADER], have: 0, payload: 0 },
            is_block_open: false,
            last_stream: 0,
            level: 0,
            emptied: now,
        }
    }

    /// The peer sent these bytes.
    ///
    /// # Errors
    /// With the kind of frame that was one too many.
    pub(super) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<(), &'static str> {
        let Self { inbound, is_block_open, last_stream, level, emptied, .. } = self;
        let mut flood = Ok(());
        inbound.advance(bytes, |frame| {
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                *is_block_open = frame.flags & END_HEADERS == 0;
                *last_stream = frame.stream.max(*last_stream);
            }
            if let Some(name) = frame.oddity() {
                *level += 1;
                if *level > BOUND {
                    drain(level, emptied, now);
                }
                if *level > BOUND && flood.is_ok() {
                    flood = Err(name);
                }
            }
        });
        flood
    }

    /// These bytes went to the peer.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let level = &mut self.level;
        self.outbound.advance(bytes, |frame| {
            if matches!(frame.kind, HEADERS | DATA) {
                *level = level.saturating_sub(PAID_BY_ANSWER);
            }
        });
    }

    /// True in the middle of the preface, a frame or a header block.
    pub(super) const fn is_amid(&self) -> bool {
        self.inbound.is_amid() || self.is_block_open
    }

    /// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 section 6.8), unless half a frame of ours is on its way.
    pub(super) fn goaway(&self) -> Option<[u8; 17]> {
        let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
        if let Some(place) = frame.get_mut(9..13) {
            place.copy_from_slice(&self.last_stream.to_be_bytes());
        }
        (!self.outbound.is_amid()).then_some(frame)
    }
}

/// What time has paid for; looked at only when the bucket seems full.
fn drain(level: &mut u32, emptied: &mut Instant, now: Instant) {
    let intervals = now.saturating_duration_since(*emptied).as_nanos() / PAID_BY_TIME.as_nanos();
    *level = level.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
    *emptied = now;
}

/// A place in a stream of frames.
#[derive(Debug)]
struct Cursor {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the payload that have not.
    payload: usize,
}

impl Cursor {
    /// Goes on by these bytes; `seen` gets each frame when its header is whole.
    fn advance(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let missing = self.header.get_mut(self.have..).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            let (Some(missing), Some((part, rest))) =
                (missing.get_mut(..taken), bytes.split_at_checked(taken))
            else {
                return;
            };
            if part.is_empty() {
                return;
            }
            missing.copy_from_slice(part);
            self.have += taken;
            bytes = rest;
            if self.have == HEADER {
                let frame = Frame::from(self.header);
                self.have = 0;
                self.payload = frame.length;
                seen(frame);
            }
        }
    }

    const fn is_amid(&self) -> bool {
        self.have > 0 || self.payload > 0
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl From<[u8; HEADER]> for Frame {
    fn from([l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; HEADER]) -> Self {
        Self {
            length: usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }
}

impl Frame {
    /// The name of a frame that makes work and carries nothing of a request.
    const fn oddity(self) -> Option<&'static str> {
        match self.kind {
            DATA => {
                let is_empty = self.length == 0 || self.length == 1 && self.flags & PADDED != 0;
                if is_empty && self.flags & END_STREAM == 0 { Some("empty_data") } else { None }
            }
            HEADERS => None,
            PRIORITY => Some("priority"),
            RST_STREAM => Some("rst_stream"),
            SETTINGS => Some("settings"),
            PING => Some("ping"),
            WINDOW_UPDATE => Some("window_update"),
            CONTINUATION => Some("continuation"),
            _ => Some("other"),
        }
    }
}

/// Frames that nothing paid for: so many at once are still no flood.
const BOUND: u32 = 500;
/// Time pays for one frame in this long.
const PAID_BY_TIME: Duration = Duration::from_millis(20);
/// A HEADERS or DATA frame that the peer is sent pays for so many.
const PAID_BY_ANSWER: u32 = 8;

const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const ENHANCE_YOUR_CALM: u8 = 0xb;

#[cfg(test)]
mod tests;
