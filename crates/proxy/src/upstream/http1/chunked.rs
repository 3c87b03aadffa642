//! The chunked transfer coding of an answer, taken off (RFC 9112 section 7.1).

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;
use hyper::body::Frame;

use super::head::AnswerError;

/// Where in a chunked body its reader is.
#[derive(Debug, Default)]
pub(super) struct Chunked(State);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// Before the line that says how long a chunk is.
    #[default]
    Size,
    /// So many bytes of a chunk are still to come.
    Data(u64),
    /// Before the end of the chunk's last line.
    DataEnd,
    /// After the last chunk.
    Trailers,
    Done,
}

impl Chunked {
    /// True when nothing more belongs to the body.
    pub(super) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Takes the next piece off the front of `ahead`; none when more bytes must come first, or at the end.
    ///
    /// # Errors
    /// They are not chunked.
    pub(super) fn next(&mut self, ahead: &mut Bytes) -> Result<Option<Frame<Bytes>>, AnswerError> {
        loop {
            match self.0 {
                State::Size => match httparse::parse_chunk_size(ahead).map_err(|_| AnswerError::Chunk)? {
                    Status::Complete((length, size)) => {
                        let line = ahead.split_to(length);
                        // Of extensions httparse takes each byte but CR; a line feed would end the line for others.
                        let has_one_line = line.iter().filter(|byte| **byte == b'\n').count() == 1;
                        // And a line without a digit it takes for the last chunk's.
                        let has_size = line.first().is_some_and(u8::is_ascii_hexdigit);
                        if length > MOST_LINE || !has_one_line || !has_size {
                            return Err(AnswerError::Chunk);
                        }
                        self.0 = if size == 0 { State::Trailers } else { State::Data(size) };
                    }
                    Status::Partial if ahead.len() > MOST_LINE => return Err(AnswerError::Chunk),
                    Status::Partial => return Ok(None),
                },
                State::Data(left) => {
                    if ahead.is_empty() {
                        return Ok(None);
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(ahead.len());
                    let data = ahead.split_to(here);
                    self.0 = match left - here as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    self.end_early(ahead);
                    return Ok(Some(Frame::data(data)));
                }
                State::DataEnd => match ahead.get(..2) {
                    Some(b"\r\n") => {
                        ahead.advance(2);
                        self.0 = State::Size;
                    }
                    Some(_) => return Err(AnswerError::Chunk),
                    None => return Ok(None),
                },
                State::Trailers => {
                    let Some(trailers) = trailers(ahead)? else { return Ok(None) };
                    self.0 = State::Done;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                State::Done => return Ok(None),
            }
        }
    }

    /// The end mostly comes with the last data: whoever takes that then knows that it is the last.
    fn end_early(&mut self, ahead: &mut Bytes) {
        if self.0 == State::DataEnd && ahead.starts_with(END) {
            ahead.advance(END.len());
            self.0 = State::Done;
        }
    }
}

fn trailers(ahead: &mut Bytes) -> Result<Option<HeaderMap>, AnswerError> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let (length, fields) = match httparse::parse_headers(ahead, &mut fields) {
        Ok(Status::Complete((length, fields))) if length <= MOST_LINE => (length, fields),
        Ok(Status::Partial) if ahead.len() <= MOST_LINE => return Ok(None),
        Ok(_) | Err(_) => return Err(AnswerError::Chunk),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| AnswerError::Chunk)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| AnswerError::Chunk)?;
        trailers.append(name, value);
    }
    ahead.advance(length);
    Ok(Some(trailers))
}

/// The end of a chunk, the last one, and no trailers.
const END: &[u8] = b"\r\n0\r\n\r\n";
/// Bytes of the line that begins a chunk, and of all trailers.
const MOST_LINE: usize = 8 * 1024;
/// Fields of all trailers.
const MOST_TRAILERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a body that arrives in pieces of so many bytes: data, trailers, what is left.
    fn read(body: &[u8], piece: usize) -> Result<(Vec<u8>, HeaderMap, Option<Bytes>), AnswerError> {
        let (mut chunked, mut ahead) = (Chunked::default(), Bytes::new());
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut pieces = body.chunks(piece);
        loop {
            while let Some(frame) = chunked.next(&mut ahead)? {
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                }
            }
            if chunked.is_done() {
                let rest: Vec<u8> = [ahead.to_vec(), pieces.flatten().copied().collect()].concat();
                return Ok((data, trailers, Some(rest.into())));
            }
            match pieces.next() {
                Some(next) => ahead = [&ahead, next].concat().into(),
                None => return Ok((data, trailers, None)),
            }
        }
    }

    #[test]
    fn a_body_is_the_same_in_whatever_pieces_it_comes() {
        let body = b"5;x=\"y\"\r\nhello\r\n00A\r\n, and more\r\n0\r\nX-T: 1\r\nX-T: 2\r\n\r\nnext";
        for piece in 1..=body.len() {
            let (data, trailers, rest) = read(body, piece).unwrap();
            assert_eq!(
                (&*data, &*rest.unwrap()),
                (b"hello, and more".as_slice(), b"next".as_slice()),
                "{piece}"
            );
            assert_eq!(trailers.get_all("x-t").iter().collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    #[test]
    fn the_last_data_is_known_to_be_the_last() {
        let (mut chunked, mut ahead) = (Chunked::default(), Bytes::from_static(b"2\r\nok\r\n0\r\n\r\n"));
        assert!(chunked.next(&mut ahead).unwrap().is_some());
        assert!(chunked.is_done() && ahead.is_empty());
    }

    #[test]
    fn what_is_not_chunked_is_refused_and_what_is_cut_off_has_no_end() {
        for bad in [
            "zz\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n\r\n\r\n",
            "5\r\nhello\r\n;x\r\n\r\n",
            "5\r\nhello\r\n \r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
        ] {
            assert_eq!(read(bad.as_bytes(), 3).err(), Some(AnswerError::Chunk), "{bad:?}");
        }
        assert!(read(format!("1;{}", "x".repeat(MOST_LINE)).as_bytes(), 999).is_err());
        assert!(read(format!("0\r\na: {}", "x".repeat(MOST_LINE)).as_bytes(), 999).is_err());
        for cut in ["", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "0\r\nA: b\r\n"] {
            assert_eq!(read(cut.as_bytes(), 2).unwrap().2, None, "{cut:?}");
        }
    }
}
