//! The control socket's side of the gateway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin::{Control, DenyChange, Drill, Reloading};
use serde_json::{Value, json};
use tokio::task::{JoinError, spawn_blocking};

use super::handover::start_successor;
use super::prepare::{Occasion, prepare};
use super::reload::Reloader;
use super::status::status;
use super::wall_clock;
use crate::config;

/// Answers the operator.
pub(super) struct Door(pub(super) Arc<Mutex<Reloader>>);

impl Control for Door {
    fn status(&self) -> Value {
        status(&lock(&self.0), wall_clock())
    }

    fn reload(&self) -> Reloading<'_> {
        let reloader = self.0.clone();
        Box::pin(async move {
            let generation = reload(reloader).await?;
            Ok(json!({ "generation": generation }))
        })
    }

    fn upgrade(&self) -> Reloading<'_> {
        let reloader = self.0.clone();
        Box::pin(async move {
            let successor = upgrade(reloader).await?;
            Ok(json!({ "pid": successor }))
        })
    }

    fn drill(&self, drill: Drill) -> Result<Value, Vec<String>> {
        super::drill::begin(&lock(&self.0), &drill, wall_clock())
    }

    fn deny(&self, change: DenyChange) -> Result<Value, Vec<String>> {
        let mut reloader = lock(&self.0);
        let Reloader { deny, metrics, .. } = &mut *reloader;
        deny.change(change, metrics, wall_clock())
    }
}

/// Reads the configuration, asks the stores for what is new in it, and publishes it. What may block runs on threads of its
/// own (policies of a large configuration take seconds to compile), and nothing waits for a caller that hung up. Meanwhile
/// material is renewed and `status` answers; only publishing needs the gateway's state.
pub(super) async fn reload(reloader: Arc<Mutex<Reloader>>) -> Result<u64, Vec<String>> {
    let tasks = lock(&reloader).tasks.clone();
    let reloading = tasks.spawn(async move {
        let (turn, file, work) = {
            let reloader = lock(&reloader);
            (reloader.turn.clone(), reloader.file.clone(), reloader.work.clone())
        };
        let _turn = turn.lock().await;
        let loaded = spawn_blocking(move || config::load(&file, wall_clock()))
            .await
            .map_err(|error| broken(&error))?;
        let loaded = match loaded {
            Ok(checked) if checked.fingerprint == lock(&reloader).fingerprint => {
                lock(&reloader).living.wake();
                Ok(None)
            }
            Ok(checked) => {
                let former = lock(&reloader).living.clone();
                prepare(checked, &former, &work, Occasion::Reload).await.map(Some)
            }
            Err(problems) => Err(problems),
        };
        spawn_blocking(move || lock(&reloader).take(loaded)).await.map_err(|error| broken(&error))?
    });
    reloading.await.unwrap_or_else(|error| Err(broken(&error)))
}

/// Has a new program take this one's place. What it says `ready` to is over for this one: it drains.
pub(super) async fn upgrade(reloader: Arc<Mutex<Reloader>>) -> Result<u32, Vec<String>> {
    let tasks = lock(&reloader).tasks.clone();
    let upgrading = tasks.spawn(async move {
        let turn = lock(&reloader).turn.clone();
        let _turn = turn.lock().await;
        if lock(&reloader).succeeded.is_cancelled() {
            return Err(vec!["another program has taken this one's place already".to_owned()]);
        }
        let belongings = lock(&reloader)
            .belongings()
            .map_err(|error| vec![format!("the sockets cannot be handed over: {error}")])?;
        let started = spawn_blocking(move || start_successor(&belongings)).await;
        let successor = started.unwrap_or_else(|error| Err(vec![error.to_string()]));
        match &successor {
            Ok(pid) => {
                tracing::info!(pid, "a new program serves");
                lock(&reloader).relieved(*pid);
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(problem, "the new program does not serve: this one goes on");
                }
            }
        }
        successor
    });
    upgrading.await.unwrap_or_else(|error| Err(vec![format!("the upgrade did not end: {error}")]))
}

fn broken(error: &JoinError) -> Vec<String> {
    vec![format!("the reload did not end: {error}")]
}

pub(super) fn lock(reloader: &Mutex<Reloader>) -> MutexGuard<'_, Reloader> {
    reloader.lock().unwrap_or_else(PoisonError::into_inner)
}
