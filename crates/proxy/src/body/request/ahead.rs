//! A body that is read before it is sent on, or again.

use bytes::Bytes;

use super::{Kind, MOST_KEPT, Progress, RequestBody, next_frame};
use crate::refusal::Refusal;

impl RequestBody {
    /// Gives back a piece that was taken and is to be taken again.
    pub(crate) fn unread(&mut self, piece: Bytes) {
        match &mut self.0 {
            Kind::Empty | Kind::Held(_) => self.0 = Kind::Held(piece),
            Kind::Passing(reader) => {
                let mut guarded = reader.guarded.borrow_mut();
                match guarded.read.checked_sub(1) {
                    // It was kept: it is the last one that was read.
                    Some(read) => guarded.read = read,
                    None => guarded.kept.push(piece),
                }
            }
        }
    }

    /// All of it, if that is no more than `most` bytes. It is read again from its start afterwards; only its trailers are lost.
    ///
    /// # Errors
    /// When it is too large for its listener or too slow, or breaks off.
    pub(crate) async fn ahead(&mut self, most: usize) -> Result<Option<Bytes>, Refusal> {
        let guarded = match &self.0 {
            Kind::Empty => return Ok(Some(Bytes::new())),
            Kind::Held(bytes) => return Ok((bytes.len() <= most).then(|| bytes.clone())),
            Kind::Passing(reader) => reader.guarded.clone(),
        };
        let progress = self.progress();
        let (mut pieces, mut length) = (Vec::new(), 0_usize);
        let is_whole = loop {
            let failed =
                |_| progress.as_deref().and_then(Progress::failure).unwrap_or(Refusal::BodyMalformed);
            let Some(frame) = next_frame(self).await else { break true };
            let Ok(data) = frame.map_err(failed)?.into_data() else { continue };
            length = length.saturating_add(data.len());
            pieces.push(data);
            if length > most {
                break false;
            }
        };
        let whole = is_whole.then(|| Bytes::from(pieces.concat()));
        let mut guarded = guarded.borrow_mut();
        guarded.repeats = length as u64 <= MOST_KEPT;
        (guarded.kept, guarded.read) = (pieces, 0);
        Ok(whole)
    }
}
