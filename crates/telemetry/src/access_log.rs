//! The access log: lines are made on the cores, written by one thread.
//!
//! Each core fills a buffer of its own and hands it over when it is full, or when a tick asks for it. Between the
//! cores and the writer stands a queue of bounded length; where the queue is full (a slow disk, a blocked pipe), the
//! buffer is dropped, its records are counted in `portcullis_access_log_dropped_total`, and no core waits.

use std::fmt::{self, Display};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use crate::record::Clock;
use crate::{Metrics, Record};

/// Where access records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to and created with mode 0640.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The access log as the cores see it; clones are the same log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Message>>,
    metrics: Arc<Metrics>,
}

/// The log of one core.
#[derive(Debug)]
pub struct CoreLog {
    log: AccessLog,
    lines: Vec<u8>,
    records: u64,
    clock: Clock,
}

/// The thread that writes; the process keeps it to reopen the file and to end it.
#[derive(Debug)]
pub struct AccessLogWriter {
    queue: Option<SyncSender<Message>>,
    asked: Arc<Asked>,
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the destination and starts its writer.
    ///
    /// # Errors
    /// If the file cannot be opened for appending, or the thread cannot be started.
    pub fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<(Self, AccessLogWriter)> {
        let (end, ended) = sync_channel(1);
        let asked = Arc::new(Asked::default());
        let Some(sink) = Sink::open(destination)? else {
            return Ok((Self { queue: None, metrics }, AccessLogWriter { queue: None, asked, ended }));
        };
        let (queue, messages) = sync_channel(QUEUE);
        let thread = Thread {
            sink,
            messages,
            asked: Arc::clone(&asked),
            metrics: Arc::clone(&metrics),
            failing: false,
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            thread.run();
            // INVARIANT: held until here; dropping it tells `close` that everything is written.
            drop(end);
        })?;
        let writer = AccessLogWriter { queue: Some(queue.clone()), asked, ended };
        Ok((Self { queue: Some(queue), metrics }, writer))
    }

    /// The log of one core.
    #[must_use]
    pub fn core(&self) -> CoreLog {
        CoreLog { log: self.clone(), lines: Vec::new(), records: 0, clock: Clock::default() }
    }

    /// Whether records go anywhere, so that a caller need not gather one.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.queue.is_some()
    }
}

impl CoreLog {
    /// Appends a record to the core's buffer, and hands the buffer over when it is full.
    pub fn write<P: Display>(&mut self, record: &Record<'_, P>) {
        if !self.log.is_on() {
            return;
        }
        if self.lines.capacity() == 0 {
            self.lines.reserve_exact(FULL + FULL / 4);
        }
        record.write(&mut self.lines, &mut self.clock);
        self.records += 1;
        if self.lines.len() >= FULL {
            self.flush();
        }
    }

    /// Hands over what the buffer holds; for a tick of its core.
    pub fn flush(&mut self) {
        let Some(queue) = self.log.queue.as_ref().filter(|_| !self.lines.is_empty()) else { return };
        let records = std::mem::take(&mut self.records);
        let lines = Message::Lines { lines: std::mem::take(&mut self.lines), records };
        if queue.try_send(lines).is_err() {
            self.log.metrics.access_log_dropped(records);
        }
    }
}

impl Drop for CoreLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl AccessLogWriter {
    /// Opens the file again under its name, after it was moved away (SIGHUP of a log rotation). If that fails, the
    /// old file is written on, and the failure is logged.
    pub fn reopen(&self) {
        self.ask(&self.asked.reopen);
    }

    /// Writes what was handed over so far and ends the thread; `false` if that took longer than `deadline`.
    #[must_use]
    pub fn close(self, deadline: Duration) -> bool {
        self.ask(&self.asked.close);
        self.queue.is_none()
            || self.ended.recv_timeout(deadline) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    fn ask(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // A full queue needs no waking: the writer looks after each message.
            let _ = queue.try_send(Message::Wake);
        }
    }
}

enum Message {
    Lines { lines: Vec<u8>, records: u64 },
    Wake,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines { .. } => "Lines",
            Self::Wake => "Wake",
        })
    }
}

#[derive(Debug, Default)]
struct Asked {
    reopen: AtomicBool,
    close: AtomicBool,
}

struct Thread {
    sink: Sink,
    messages: Receiver<Message>,
    asked: Arc<Asked>,
    metrics: Arc<Metrics>,
    failing: bool,
}

impl Thread {
    fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            self.take(message);
            if self.asked.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            if self.asked.close.load(Ordering::Acquire) {
                break;
            }
        }
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        let Message::Lines { lines, records } = message else { return };
        match self.sink.file.write_all(&lines) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.metrics.access_log_dropped(records);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "access records are lost: the log cannot be written");
                }
            }
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.sink.path else { return };
        match append(path) {
            Ok(file) => self.sink.file = file,
            Err(error) => {
                tracing::error!(%error, ?path, "the access log stays on its old file: reopening failed");
            }
        }
    }
}

struct Sink {
    file: File,
    path: Option<PathBuf>,
}

impl Sink {
    fn open(destination: Destination) -> io::Result<Option<Self>> {
        // Standard streams are taken by their descriptor: std's handles would split and lock each write.
        let (file, path) = match destination {
            Destination::Off => return Ok(None),
            Destination::Stdout => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            Destination::Stderr => (File::from(io::stderr().as_fd().try_clone_to_owned()?), None),
            Destination::File(path) => (append(&path)?, Some(path)),
        };
        Ok(Some(Self { file, path }))
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// A buffer of this many bytes is handed over: what a pipe holds, and few enough wake-ups of the writer (with 16 KiB it took
/// 5 % of the CPU at 45,000 requests a second).
const FULL: usize = 64 * 1024;

/// Buffers between cores and writer: with [`FULL`], at most about 5 MiB wait.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::record::tests::record;

    const SECONDS: Duration = Duration::from_secs(10);

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.encode().unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("portcullis_access_log_dropped_total "));
        count.unwrap().parse().unwrap()
    }

    #[test]
    fn every_record_of_every_core_is_in_the_file_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let metrics = Metrics::new(2);
        let (log, writer) = AccessLog::open(Destination::File(path.clone()), Arc::clone(&metrics)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut core = log.core();
                    for _ in 0..1_000 {
                        core.write(&record("/orders"));
                    }
                });
            }
        });
        assert!(writer.close(SECONDS));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().filter(|line| line.ends_with(r#""resumed":true}"#)).count(), 2_000);
        assert_eq!(dropped(&metrics), 0);
    }

    #[test]
    fn after_a_rotation_records_go_into_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let rotated = directory.path().join("access.log.1");
        let (log, writer) = AccessLog::open(Destination::File(path.clone()), Metrics::new(1)).unwrap();
        let mut core = log.core();
        core.write(&record("/old"));
        core.flush();
        std::fs::rename(&path, &rotated).unwrap();
        writer.reopen();
        let start = Instant::now();
        while !path.exists() {
            assert!(start.elapsed() < SECONDS, "the file was not opened again");
            std::thread::yield_now();
        }
        core.write(&record("/new"));
        drop(core);
        assert!(writer.close(SECONDS));
        assert!(std::fs::read_to_string(rotated).unwrap().contains("/old"));
        let new = std::fs::read_to_string(path).unwrap();
        assert!(new.contains("/new") && !new.contains("/old"));
    }

    #[test]
    fn a_reader_that_stands_still_costs_records_and_never_a_core() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || File::open(path).unwrap()
        });
        let metrics = Metrics::new(1);
        let (log, writer) = AccessLog::open(Destination::File(path), Arc::clone(&metrics)).unwrap();
        let _reader = reader.join().unwrap();
        let mut core = log.core();
        let start = Instant::now();
        for _ in 0..30_000 {
            core.write(&record("/orders"));
        }
        assert!(start.elapsed() < SECONDS);
        assert!(dropped(&metrics) > 1_000);
        assert!(!writer.close(Duration::from_millis(50)));
    }

    #[test]
    fn a_full_disk_is_counted_and_the_log_goes_on() {
        let metrics = Metrics::new(1);
        let (log, writer) =
            AccessLog::open(Destination::File(PathBuf::from("/dev/full")), Arc::clone(&metrics)).unwrap();
        let mut core = log.core();
        for _ in 0..3 {
            core.write(&record("/orders"));
            core.flush();
        }
        drop(core);
        assert!(writer.close(SECONDS));
        assert_eq!(dropped(&metrics), 3);
    }

    #[test]
    fn a_log_that_is_off_takes_nothing() {
        let (log, writer) = AccessLog::open(Destination::Off, Metrics::new(1)).unwrap();
        let mut core = log.core();
        core.write(&record("/orders"));
        assert!(!log.is_on() && core.lines.capacity() == 0);
        assert!(writer.close(SECONDS));
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error() {
        let destination = Destination::File(PathBuf::from("/nowhere/access.log"));
        assert!(AccessLog::open(destination, Metrics::new(1)).is_err());
    }
}
