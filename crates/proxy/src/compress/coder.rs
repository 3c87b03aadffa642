//! Bytes in, compressed bytes out, a bounded piece at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use telemetry::CompressionSeries;

use super::{Coding, MOST, STEP, STREAK};

/// Compresses one answer.
#[derive(Debug)]
pub(crate) struct Coder {
    /// Until the end was compressed.
    encoder: Option<(Encoder, Place)>,
    /// What is still to be compressed.
    input: VecDeque<Bytes>,
    /// Nothing more comes but this.
    ends: Option<Option<HeaderMap>>,
    /// The encoder holds bytes of which nothing has gone out.
    holds: bool,
    /// How often the upstream had nothing more since then.
    waits: u8,
    /// Bytes since others had their turn.
    streak: usize,
    core: usize,
    series: Arc<CompressionSeries>,
}

/// What comes next of a compressed answer.
#[derive(Debug)]
pub(crate) enum Next {
    /// Bytes.
    Data(Bytes),
    /// What follows the bytes.
    Trailers(HeaderMap),
    /// More is needed.
    Hungry,
    /// Others are to have their turn.
    Rest,
    /// That was all.
    End,
}

impl Coder {
    /// One that has seen nothing; none while the core has as many as it may.
    pub(super) fn new(
        coding: Coding,
        taken: &Rc<Cell<usize>>,
        core: usize,
        series: &Arc<CompressionSeries>,
    ) -> Option<Self> {
        let place = Place::new(taken)?;
        Some(Self {
            encoder: Some((Encoder::new(coding), place)),
            input: VecDeque::new(),
            ends: None,
            holds: false,
            waits: 0,
            streak: 0,
            core,
            series: series.clone(),
        })
    }

    /// Takes bytes; they are compressed by and by.
    pub(crate) fn take(&mut self, data: Bytes) {
        self.waits = 0;
        self.series.took(self.core, data.len());
        if !data.is_empty() {
            self.input.push_back(data);
        }
    }

    /// Nothing more comes but these trailers.
    pub(crate) fn end(&mut self, trailers: Option<HeaderMap>) {
        self.ends.get_or_insert(trailers);
    }

    /// True when all of it has been given out.
    pub(crate) const fn has_ended(&self) -> bool {
        self.encoder.is_none() && matches!(self.ends, Some(None))
    }

    /// Goes a step on.
    ///
    /// # Errors
    /// The encoder failed, which it does for no bytes that are known.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        while let Some((encoder, _)) = &mut self.encoder {
            if self.streak >= STREAK {
                self.streak = 0;
                return Ok(Next::Rest);
            }
            if let Some(mut data) = self.input.pop_front() {
                let piece = data.split_to(data.len().min(STEP));
                if !data.is_empty() {
                    self.input.push_front(data);
                }
                encoder.write(&piece)?;
                self.streak += piece.len();
                self.holds = true;
                if encoder.output().len() >= ENOUGH {
                    let out = std::mem::take(encoder.output());
                    return Ok(self.data(out));
                }
            } else if self.ends.is_none() {
                return Ok(Next::Hungry);
            } else if let Some((encoder, _)) = self.encoder.take() {
                let out = encoder.finish()?;
                return Ok(self.data(out));
            }
        }
        Ok(match &mut self.ends {
            Some(trailers) => trailers.take().map_or(Next::End, Next::Trailers),
            None => Next::End,
        })
    }

    /// True while something is held and the upstream may come by more at once: over HTTP/2 its connection's task reads, and needs a turn to. Measured,
    /// when one read HTTP/1.1, too: with a flush for each chunk of 1,000 bytes an answer was a sixth longer.
    pub(crate) fn may_wait(&mut self) -> bool {
        self.waits = self.waits.saturating_add(1);
        self.holds && self.waits <= WAITS
    }

    /// All that can be read of what was taken so far, while nothing more comes for now.
    ///
    /// # Errors
    /// As [`Coder::next`].
    pub(crate) fn flush(&mut self) -> io::Result<Option<Bytes>> {
        self.streak = 0;
        let Some((encoder, _)) = self.encoder.as_mut().filter(|_| self.holds) else { return Ok(None) };
        encoder.flush()?;
        self.holds = false;
        let out = std::mem::take(encoder.output());
        self.series.gave(self.core, out.len());
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn data(&self, out: Vec<u8>) -> Next {
        self.series.gave(self.core, out.len());
        Next::Data(out.into())
    }
}

/// One of the few that a core has.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Place {
    fn new(taken: &Rc<Cell<usize>>) -> Option<Self> {
        (taken.get() < MOST).then(|| {
            taken.set(taken.get() + 1);
            Self(taken.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

enum Encoder {
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brotli(_) => "Brotli",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl Encoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Brotli => {
                let params =
                    BrotliEncoderParams { quality: QUALITY, lgwin: WINDOW, ..BrotliEncoderParams::default() };
                Self::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), BUFFER, &params)))
            }
            Coding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(LEVEL)))),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Brotli(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// Measured on JSON (rustc 1.95, one core): quality 3 with a window of 256 KiB makes 100 MB/s with 1.1 MiB of memory to 0.22 of the size; 4 makes
/// 72 MB/s with 3.6 MiB to 0.21. Level 3 of gzip makes 105 MB/s with 0.45 MiB to 0.26; 6 makes half of that to 0.25.
const QUALITY: i32 = 3;
const WINDOW: i32 = 18;
const LEVEL: u32 = 3;
/// Two, since hyper's server asks the body of an answer to an HTTP/1.1 client twice in a turn.
const WAITS: u8 = 2;
/// Between the brotli encoder and its output.
const BUFFER: usize = 4096;
/// Compressed bytes that are worth a piece of their own.
const ENOUGH: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use telemetry::Metrics;

    use super::*;

    fn coder(coding: Coding, taken: &Rc<Cell<usize>>) -> Option<Coder> {
        Coder::new(coding, taken, 0, &Metrics::new(1).compression("all"))
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // An end that has not come is none: what is there counts.
        let _ = match coding {
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        };
        plain
    }

    /// All that comes until more is needed or nothing does, and how often others had their turn.
    fn drain(coder: &mut Coder, out: &mut Vec<u8>) -> (usize, Option<HeaderMap>) {
        let (mut rests, mut trailers) = (0, None);
        loop {
            match coder.next().unwrap() {
                Next::Data(data) => out.extend_from_slice(&data),
                Next::Rest => rests += 1,
                Next::Trailers(last) => trailers = Some(last),
                Next::Hungry | Next::End => return (rests, trailers),
            }
        }
    }

    #[test]
    fn what_comes_out_is_what_went_in_and_others_have_their_turn() {
        for coding in [Coding::Brotli, Coding::Gzip] {
            let taken = Rc::default();
            let mut coder = coder(coding, &taken).unwrap();
            let text: Vec<u8> =
                (0..1_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 29) as u8).collect();
            let mut out = Vec::new();
            let mut rests = 0;
            for piece in [&text[..1], &text[1..10], &text[10..999_999], &[], &text[999_999..]] {
                coder.take(Bytes::copy_from_slice(piece));
                rests += drain(&mut coder, &mut out).0;
            }
            assert!(!coder.has_ended());
            coder
                .end(Some([(http::header::ETAG, http::HeaderValue::from_static("x"))].into_iter().collect()));
            let (_, trailers) = drain(&mut coder, &mut out);
            assert!(coder.has_ended() && trailers.is_some_and(|trailers| trailers.len() == 1));
            assert_eq!(decoded(coding, &out), text);
            assert!(out.len() < text.len() / 2, "{}", out.len());
            assert_eq!(rests, 1_000_000 / STREAK, "{coding:?}");
            assert_eq!(taken.get(), 0, "its place is free before the coder is gone");
        }
    }

    #[test]
    fn a_flush_gives_all_that_was_taken_and_nothing_when_nothing_was() {
        for coding in [Coding::Brotli, Coding::Gzip] {
            let mut coder = coder(coding, &Rc::default()).unwrap();
            assert_eq!(coder.flush().unwrap(), None);
            let mut out = Vec::new();
            for (piece, so_far) in [("one", "one"), (" two", "one two"), ("", "one two")] {
                coder.take(Bytes::from_static(piece.as_bytes()));
                drain(&mut coder, &mut out);
                let flushed = coder.flush().unwrap();
                assert_eq!(flushed.is_some(), !piece.is_empty());
                out.extend(flushed.unwrap_or_default());
                assert_eq!(decoded(coding, &out), so_far.as_bytes(), "{coding:?}");
            }
            coder.end(None);
            drain(&mut coder, &mut out);
            assert_eq!(decoded(coding, &out), b"one two");
        }
    }

    #[test]
    fn a_core_has_so_many_and_no_more() {
        let taken = Rc::default();
        let mut coders: Vec<_> = (0..MOST).map(|_| coder(Coding::Gzip, &taken).unwrap()).collect();
        assert!(coder(Coding::Gzip, &taken).is_none());
        coders.pop();
        assert!(coder(Coding::Brotli, &taken).is_some());
    }
}
