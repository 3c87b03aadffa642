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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        assert_eq!(frames.received(CLIENT, now), Ok(()));
        assert!(!frames.is_amid());
        frames
    }

    fn odd_frames() -> [(Vec<u8>, &'static str); 9] {
        [
            (frame(DATA, 0, 1, 0), "empty_data"),
            (frame(DATA, PADDED, 1, 1), "empty_data"),
            (frame(PRIORITY, 0, 1, 5), "priority"),
            (frame(RST_STREAM, 0, 1, 4), "rst_stream"),
            (frame(SETTINGS, 0, 0, 6), "settings"),
            (frame(PING, 0, 0, 8), "ping"),
            (frame(WINDOW_UPDATE, 0, 0, 4), "window_update"),
            (frame(CONTINUATION, END_HEADERS, 1, 0), "continuation"),
            (frame(0x21, 0, 0, 3), "other"),
        ]
    }

    #[test]
    fn every_kind_of_empty_frame_is_a_flood_when_it_comes_in_masses() {
        let now = Instant::now();
        for (odd, name) in odd_frames() {
            let mut frames = begun(now);
            assert_eq!(frames.received(&odd.repeat(500), now), Ok(()), "{name}");
            assert_eq!(frames.received(&odd, now), Err(name));
        }
    }

    #[test]
    fn requests_alone_are_no_flood() {
        let now = Instant::now();
        let mut frames = begun(now);
        let request = [
            frame(HEADERS, END_HEADERS, 1, 40),
            frame(DATA, 0, 1, 1),
            frame(DATA, PADDED, 1, 2),
            frame(DATA, END_STREAM, 1, 0),
        ]
        .concat();
        assert_eq!(frames.received(&request.repeat(100_000), now), Ok(()));
    }

    #[test]
    fn a_request_that_is_reset_each_time_is_a_flood() {
        let now = Instant::now();
        let mut frames = begun(now);
        let reset = [frame(HEADERS, END_HEADERS | END_STREAM, 1, 40), frame(RST_STREAM, 0, 1, 4)].concat();
        assert_eq!(frames.received(&reset.repeat(501), now), Err("rst_stream"));
    }

    #[test]
    fn a_client_that_pings_for_days_is_welcome() {
        let start = Instant::now();
        let mut frames = begun(start);
        for second in 0..200_000 {
            let pings = frame(PING, 0, 0, 8).repeat(40);
            assert_eq!(frames.received(&pings, start + Duration::from_secs(second)), Ok(()));
        }
    }

    #[test]
    fn time_does_not_pay_for_a_flood_twice() {
        let start = Instant::now();
        let mut frames = begun(start);
        let later = start + Duration::from_secs(10);
        assert_eq!(frames.received(&frame(PING, 0, 0, 8).repeat(1000), later), Ok(()));
        assert_eq!(frames.received(&frame(PING, 0, 0, 8), later), Err("ping"));
    }

    #[test]
    fn a_client_that_opens_windows_for_each_frame_it_gets_is_welcome() {
        let now = Instant::now();
        let mut frames = begun(now);
        for _ in 0..10_000 {
            frames.sent(&frame(DATA, 0, 1, 16_384));
            let windows = [frame(WINDOW_UPDATE, 0, 0, 4), frame(WINDOW_UPDATE, 0, 1, 4)].concat();
            assert_eq!(frames.received(&windows, now), Ok(()));
        }
    }

    #[test]
    fn answers_to_a_flood_do_not_pay_for_it() {
        let now = Instant::now();
        let mut frames = begun(now);
        let mut flooded = Ok(());
        for _ in 0..501 {
            frames.sent(&frame(PING, 1, 0, 8));
            frames.sent(&frame(SETTINGS, 1, 0, 0));
            frames.sent(&frame(RST_STREAM, 0, 1, 4));
            flooded = frames.received(&frame(PING, 0, 0, 8), now);
        }
        assert_eq!(flooded, Err("ping"));
    }

    #[test]
    fn what_is_not_whole_yet_is_known() {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        assert!(frames.is_amid(), "the preface is missing");
        frames.received(CLIENT, now).unwrap();
        frames.received(&frame(HEADERS, 0, 7, 3), now).unwrap();
        assert!(frames.is_amid(), "a CONTINUATION is missing");
        frames.received(&frame(CONTINUATION, END_HEADERS, 7, 3), now).unwrap();
        assert!(!frames.is_amid());
        let ping = frame(PING, 0, 0, 8);
        frames.received(&ping[..12], now).unwrap();
        assert!(frames.is_amid());
        frames.received(&ping[12..], now).unwrap();
        assert!(!frames.is_amid());
    }

    #[test]
    fn goaway_names_the_last_stream_and_never_cuts_a_frame_in_two() {
        let now = Instant::now();
        let mut frames = begun(now);
        frames.received(&frame(HEADERS, END_HEADERS, 0x0102_0305, 3), now).unwrap();
        let answer = frame(DATA, 0, 1, 100);
        frames.sent(&answer[..50]);
        assert_eq!(frames.goaway(), None);
        frames.sent(&answer[50..]);
        assert_eq!(frames.goaway(), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 1, 2, 3, 5, 0, 0, 0, 0xb]));
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_frames_are_the_same(
            sent in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>(), 0_usize..300), 0..40),
            cuts in prop::collection::vec(1_usize..50, 1..200),
        ) {
            let bytes: Vec<u8> =
                sent.iter().flat_map(|&(kind, flags, stream, length)| frame(kind, flags, stream, length)).collect();
            let mut cursor = Cursor { header: [0; HEADER], have: 0, payload: 0 };
            let (mut seen, mut rest) = (Vec::new(), bytes.as_slice());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at(cut.min(rest.len()));
                cursor.advance(part, |frame| seen.push(frame));
                rest = after;
            }
            let expected: Vec<Frame> = sent
                .into_iter()
                .map(|(kind, flags, stream, length)| Frame { length, kind, flags, stream: stream & 0x7fff_ffff })
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(!cursor.is_amid());
        }

        #[test]
        fn no_bytes_whatever_are_too_odd(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0_u64..2000), 0..50),
        ) {
            let mut now = Instant::now();
            let mut frames = Frames::new(now);
            for (ours, bytes, pause) in steps {
                now += Duration::from_millis(pause);
                if ours {
                    frames.sent(&bytes);
                } else {
                    frames.received(&bytes, now).ok();
                }
                frames.goaway();
                prop_assert!(frames.level <= BOUND + 200);
            }
        }
    }

    /// `cargo test --release -p proxy -- --ignored --nocapture frames_cost`
    #[test]
    #[ignore = "measures"]
    fn frames_cost() {
        let now = Instant::now();
        for (name, bytes, count) in [
            ("requests of 40 bytes", frame(HEADERS, END_HEADERS | END_STREAM, 1, 40), 1),
            ("uploads in 16 KiB frames", frame(DATA, 0, 1, 16_384), 1),
        ] {
            let many = bytes.repeat(100);
            let mut frames = begun(now);
            let started = std::time::Instant::now();
            for _ in 0..100_000 {
                frames.received(std::hint::black_box(&many), now).unwrap();
            }
            println!("{name}: {:?} a frame", started.elapsed() / (100_000 * 100 * count));
        }
    }
}
