//! The answer's side of an exchange: bytes in whatever pieces they come, and what they mean. It reads from nobody.

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::Frame;

use super::head::{self, AnswerError, Framing, Head, MOST_HEAD};

/// How far an answer is understood. Public for the fuzz target `upstream_answer`.
#[derive(Debug)]
pub struct Reading {
    /// What came and is not understood yet.
    ahead: Bytes,
    framing: Framing,
    keeps_alive: bool,
    /// Bytes of interim answers.
    interim: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self { ahead: Bytes::new(), framing: Framing::Length(0), keeps_alive: true, interim: 0 }
    }
}

impl Reading {
    /// Takes what came.
    pub fn feed(&mut self, piece: &[u8]) {
        // Of the right size: what a slow client leaves lying is no larger than what it is.
        self.ahead = match self.ahead.is_empty() {
            true => Bytes::copy_from_slice(piece),
            false => [&self.ahead, piece].concat().into(),
        };
    }

    /// The head of the final answer, once it is there; interim ones concern nobody (RFC 9110 section 15.2).
    ///
    /// # Errors
    /// What came is none, or says two things of its length.
    pub fn head(&mut self, is_to_head: bool) -> Result<Option<Response<()>>, AnswerError> {
        while !self.ahead.is_empty() {
            let before = self.ahead.len();
            let Some(head) = head::parse(&mut self.ahead, is_to_head)? else { break };
            let Head { response, framing, keeps_alive } = head;
            if !response.status().is_informational() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                (self.framing, self.keeps_alive) = (framing, keeps_alive);
                return Ok(Some(response));
            }
            self.interim += before - self.ahead.len();
            if self.interim > MOST_HEAD {
                return Err(AnswerError::HeadTooLarge);
            }
        }
        Ok(None)
    }

    /// True when anything came of the answer's head.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.interim > 0 || !self.ahead.is_empty()
    }

    /// The next piece of the body; none when more must come first, or at its end.
    ///
    /// # Errors
    /// It is not chunked as it says.
    pub fn frame(&mut self) -> Result<Option<Frame<Bytes>>, AnswerError> {
        Ok(match &mut self.framing {
            Framing::Chunked(chunked) => chunked.next(&mut self.ahead)?,
            Framing::Length(0) => None,
            _ if self.ahead.is_empty() => None,
            Framing::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.ahead.len());
                *left -= here as u64;
                Some(Frame::data(self.ahead.split_to(here)))
            }
            Framing::UntilClose => Some(Frame::data(std::mem::take(&mut self.ahead))),
        })
    }

    /// Nothing more comes; false if something should have.
    pub fn close(&mut self) -> bool {
        if matches!(self.framing, Framing::UntilClose) {
            (self.framing, self.keeps_alive) = (Framing::Length(0), false);
        }
        self.is_whole()
    }

    /// True when nothing more belongs to the body.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.is_done(),
            Framing::UntilClose => false,
        }
    }

    /// Bytes of the body that are still to come, where that is known.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// True when the connection may take another request: the answer is whole, nothing came behind it, and it does not say
    /// that its connection ends.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        self.is_whole() && self.keeps_alive && self.ahead.is_empty()
    }

    /// What came behind the answer.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body, whether it is whole and what came behind it.
    type Read = (u16, Vec<u8>, bool, Bytes);

    /// None without a head.
    fn read(answer: &[u8], pieces: &[usize]) -> Result<Option<Read>, AnswerError> {
        let (mut reading, mut at) = (Reading::default(), 0);
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(answer.len().max(1)));
        let mut feed = |reading: &mut Reading| {
            let end = answer.len().min(at + pieces.next().unwrap());
            reading.feed(&answer[at..end]);
            std::mem::replace(&mut at, end) < end
        };
        let response = loop {
            if let Some(response) = reading.head(false)? {
                break response;
            }
            if !feed(&mut reading) {
                return Ok(None);
            }
        };
        let mut body = Vec::new();
        loop {
            while let Some(frame) = reading.frame()? {
                body.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
            }
            if !feed(&mut reading) {
                break;
            }
        }
        let is_whole = reading.close();
        Ok(Some((response.status().as_u16(), body, is_whole, reading.into_rest())))
    }

    #[test]
    fn what_comes_behind_an_answer_keeps_its_connection_from_the_next() {
        let mut reading = Reading::default();
        reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(reading.head(false).unwrap().is_some() && !reading.may_go_on());
        assert!(reading.frame().unwrap().is_some() && reading.may_go_on());
        reading.feed(b"HTTP/1.1");
        assert!(reading.is_whole() && !reading.may_go_on());
    }

    #[test]
    fn interim_answers_are_left_out_and_bounded() {
        let mut reading = Reading::default();
        reading.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(reading.head(false).unwrap().unwrap().status(), StatusCode::NO_CONTENT);
        let mut reading = Reading::default();
        reading.feed(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2_000));
        assert_eq!(reading.head(false).err(), Some(AnswerError::HeadTooLarge));
    }

    proptest::proptest! {
        #[test]
        fn an_answer_says_the_same_in_whatever_pieces_it_comes(
            answer in proptest::sample::select(vec![
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nX-T: 1\r\n\r\n",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nrest",
                "HTTP/1.0 200 OK\r\n\r\nuntil the end",
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nhi",
            ]),
            change in proptest::option::of((0_usize..120, proptest::num::u8::ANY)),
            pieces in proptest::collection::vec(1_usize..9, 0..40),
        ) {
            let mut answer = answer.as_bytes().to_vec();
            if let Some((place, byte)) = change && let Some(changed) = answer.get_mut(place) {
                *changed = byte;
            }
            proptest::prop_assert_eq!(read(&answer, &pieces), read(&answer, &[]));
        }
    }
}
