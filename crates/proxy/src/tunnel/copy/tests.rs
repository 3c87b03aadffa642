use std::task::Waker;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A direction between two pipes, each of which holds so many bytes.
struct Between {
    direction: Direction,
    source: DuplexStream,
    sink: DuplexStream,
}

impl Between {
    fn poll(&mut self) -> Result<bool, Fault> {
        let mut cx = Context::from_waker(Waker::noop());
        let (source, sink) = (Pin::new(&mut self.source), Pin::new(&mut self.sink));
        self.direction.poll(&mut cx, source, sink, &mut [0; 4])
    }
}

/// The source's far end, the direction, the sink's far end.
fn between(ahead: &'static [u8]) -> (DuplexStream, Between, DuplexStream) {
    let ((far, source), (sink, end)) = (duplex(64), duplex(8));
    (far, Between { direction: Direction::new(Bytes::from_static(ahead)), source, sink }, end)
}

async fn taken(end: &mut DuplexStream, most: usize) -> String {
    let mut bytes = vec![0; most];
    let count = end.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test]
async fn what_came_ahead_goes_first() {
    let (mut far, mut between, mut end) = between(b"ahead ");
    far.write_all(b"of").await.unwrap();
    assert_eq!(between.poll(), Ok(false));
    assert_eq!(taken(&mut end, 16).await, "ahead of");
    assert_eq!((between.direction.bytes(), between.direction.is_stuck()), (8, false));
}

#[tokio::test]
async fn a_sink_that_takes_nothing_keeps_the_source_waiting() {
    let (mut far, mut between, mut end) = between(b"");
    far.write_all(&[b'x'; 64]).await.unwrap();
    for _ in 0..8 {
        assert_eq!(between.poll(), Ok(false));
    }
    // Eight in the sink, one piece of four on its way; the rest was not read.
    assert!(between.direction.is_stuck());
    assert_eq!((between.direction.bytes(), between.direction.kept.len()), (8, 4));
    assert_eq!(taken(&mut end, 8).await.len(), 8);
    assert_eq!(between.poll(), Ok(false));
    assert_eq!(between.direction.bytes(), 16);
}

#[tokio::test]
async fn the_sink_learns_of_the_end_after_the_last_byte() {
    let (mut far, mut between, mut end) = between(b"");
    far.write_all(b"last").await.unwrap();
    drop(far);
    assert_eq!(between.poll(), Ok(true));
    assert!(between.direction.is_ended());
    assert_eq!((taken(&mut end, 16).await.as_str(), taken(&mut end, 16).await.as_str()), ("last", ""));
}

#[tokio::test]
async fn a_sink_that_is_gone_is_a_fault_of_the_sink() {
    let (mut far, mut between, end) = between(b"");
    far.write_all(b"x").await.unwrap();
    drop(end);
    assert_eq!(between.poll(), Err(Fault::Sink));
}
