//! The control socket's side of the gateway.

use std::sync::{Arc, Mutex, PoisonError};

use admin::{Control, Reloading};
use serde_json::{Value, json};

use super::reload::Reloader;
use super::status::status;
use super::wall_clock;

/// Answers the operator.
pub(super) struct Door(pub(super) Arc<Mutex<Reloader>>);

impl Control for Door {
    fn status(&self) -> Value {
        status(&self.0.lock().unwrap_or_else(PoisonError::into_inner), wall_clock())
    }

    fn reload(&self) -> Reloading<'_> {
        let reloader = self.0.clone();
        Box::pin(async move {
            let outcome = reload(reloader).await?;
            Ok(json!({ "generation": outcome }))
        })
    }
}

/// Reloads on a thread that may block: policies of a large configuration take seconds to compile.
pub(super) async fn reload(reloader: Arc<Mutex<Reloader>>) -> Result<u64, Vec<String>> {
    let reloading =
        tokio::task::spawn_blocking(move || reloader.lock().unwrap_or_else(PoisonError::into_inner).reload());
    reloading.await.unwrap_or_else(|error| Err(vec![format!("the reload did not end: {error}")]))
}
