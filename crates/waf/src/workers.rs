//! The threads that look at requests: few, with a bounded queue, and below the traffic in priority.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Judged, Request, Rules, Strictness};

/// Threads that judge requests. They end when the last handle is dropped and what waits for them is done.
#[derive(Debug)]
pub struct Inspectors {
    jobs: SyncSender<Job>,
    time: Duration,
}

/// Why nobody looked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WorkerError {
    /// All are at work, and as many requests as may be wait for them.
    #[error("too many requests wait to be looked at")]
    Busy,
}

struct Job {
    rules: Arc<Rules>,
    request: Request,
    strictness: Strictness,
    deadline: Instant,
    answer: oneshot::Sender<Judged>,
}

impl Inspectors {
    /// Starts `threads`; up to `queue` requests wait for them, and each has `time` from when it comes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: NonZeroUsize, queue: usize, time: Duration) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(queue.max(1));
        let inbox = Arc::new(Mutex::new(inbox));
        for index in 0..threads.get() {
            let inbox = inbox.clone();
            std::thread::Builder::new().name(format!("waf-{index}")).spawn(move || work(&inbox))?;
        }
        Ok(Self { jobs, time })
    }

    /// Has a request judged.
    ///
    /// # Errors
    /// [`WorkerError::Busy`] at once, if it would have to wait behind too many.
    pub async fn judge(
        &self,
        rules: Arc<Rules>,
        request: Request,
        strictness: Strictness,
    ) -> Result<Judged, WorkerError> {
        let (answer, judged) = oneshot::channel();
        let deadline = Instant::now() + self.time;
        self.jobs.try_send(Job { rules, request, strictness, deadline, answer }).map_err(
            |error| match error {
                TrySendError::Full(_) | TrySendError::Disconnected(_) => WorkerError::Busy,
            },
        )?;
        // A worker sees the deadline between two rules; nobody waits for the one that it is at.
        Ok(match timeout(self.time, judged).await {
            Ok(Ok(judged)) => judged,
            Ok(Err(_)) => Judged::Failed("its thread has ended".to_owned()),
            Err(_) => Judged::TimeUp,
        })
    }
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    // Traffic comes first. Where that is not possible it is only slower.
    let _ = rustix::process::nice(BELOW_TRAFFIC);
    loop {
        let next = match inbox.lock() {
            Ok(inbox) => inbox.recv(),
            Err(poisoned) => poisoned.into_inner().recv(),
        };
        let Ok(Job { rules, request, strictness, deadline, answer }) = next else { return };
        if answer.is_closed() {
            continue;
        }
        let judged = catch_unwind(AssertUnwindSafe(|| rules.inspect(&request, strictness, deadline)));
        let judged = judged.unwrap_or_else(|_| Judged::Failed("the engine panicked".to_owned()));
        // Whoever asked may have gone.
        let _ = answer.send(judged);
    }
}

/// As `nice`.
const BELOW_TRAFFIC: i32 = 10;
