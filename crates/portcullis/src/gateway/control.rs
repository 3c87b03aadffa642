//! The control socket's side of the gateway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin::{Control, Drill, Reloading};
use serde_json::{Value, json};

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
            let outcome = reload(reloader).await?;
            Ok(json!({ "generation": outcome }))
        })
    }

    fn drill(&self, drill: Drill) -> Result<Value, Vec<String>> {
        super::drill::begin(&lock(&self.0), &drill, wall_clock())
    }
}

/// Reloads on a thread that may block: policies of a large configuration take seconds to compile. Meanwhile material is
/// renewed and `status` answers; only publishing needs the gateway's state.
pub(super) async fn reload(reloader: Arc<Mutex<Reloader>>) -> Result<u64, Vec<String>> {
    let reloading = tokio::task::spawn_blocking(move || {
        let (turn, file) = {
            let reloader = lock(&reloader);
            (reloader.turn.clone(), reloader.file.clone())
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = config::load(&file, wall_clock());
        lock(&reloader).take(loaded)
    });
    reloading.await.unwrap_or_else(|error| Err(vec![format!("the reload did not end: {error}")]))
}

pub(super) fn lock(reloader: &Mutex<Reloader>) -> MutexGuard<'_, Reloader> {
    reloader.lock().unwrap_or_else(PoisonError::into_inner)
}
