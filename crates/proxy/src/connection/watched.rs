//! The stream below HTTP, watched for the first bytes of a request head, for a peer that reads no more, and for floods of
//! HTTP/2 frames.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Connection;
use super::frames::Frames;
use crate::core::Core;

/// Tells its connection when bytes come, and when none can go; ends it when its frames are a flood.
pub(super) struct Watched<IO> {
    io: IO,
    core: Rc<Core>,
    connection: Rc<Connection>,
    /// Of HTTP/2.
    frames: Option<Frames>,
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO, core: Rc<Core>, connection: Rc<Connection>) -> Self {
        let frames = connection.is_http2.then(|| Frames::new(core.tick()));
        Self { io, core, connection, frames }
    }

    fn wrote<'a>(&mut self, polled: &Poll<std::io::Result<usize>>, slices: impl Iterator<Item = &'a [u8]>) {
        self.connection.wrote(polled.is_ready(), self.core.tick());
        if let (Some(frames), Poll::Ready(Ok(count))) = (&mut self.frames, polled) {
            let mut left = *count;
            for bytes in slices {
                let went = bytes.get(..left).unwrap_or(bytes);
                frames.sent(went);
                left -= went.len();
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> Watched<IO> {
    /// Judges the bytes that came.
    fn received(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> std::io::Result<()> {
        let now = self.core.tick();
        let Some(frames) = &mut self.frames else {
            self.connection.read(now);
            return Ok(());
        };
        let judged = frames.received(bytes, now);
        self.connection.read_frames(frames.is_amid(), now);
        judged.map_err(|kind| {
            self.connection.flooded(&self.core, kind);
            // As far as the peer still listens: it is closed either way.
            if let Some(goaway) = frames.goaway() {
                let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
                let _ = Pin::new(&mut self.io).poll_flush(cx);
            }
            std::io::Error::other("a flood of HTTP/2 frames")
        })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        match polled {
            Poll::Ready(Ok(())) => {
                let bytes = buffer.filled().get(before..).unwrap_or_default();
                Poll::Ready(self.received(cx, bytes))
            }
            Poll::Ready(Err(_)) | Poll::Pending => polled,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&polled, std::iter::once(bytes));
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.connection.wrote(polled.is_ready(), self.core.tick());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(&polled, bytes.iter().map(|slice| &**slice));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
