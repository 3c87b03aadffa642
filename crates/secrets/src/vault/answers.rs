//! Every answer that is read, in one place for the fuzz target: whatever a server sends, it is used or refused.

use super::answer::{Answer, Refusal, Wiped};
use super::mounts::{self, Engine, Mount};
use super::{database, kv, leases, pki, transit, wrapping};
use crate::{Cause, Lease};

/// Reads a body as each answer that there is, of a request that was done and of one that was refused; how many could use it.
///
/// # Errors
/// What is not JSON.
pub fn read_as_everything(body: &[u8]) -> Result<usize, Cause> {
    let answer = Answer { login: 1, body: Wiped::parse(body)? };
    let lease =
        Lease { id: "id".to_owned(), duration: std::time::Duration::ZERO, is_renewable: true, login: 1 };
    let usable = [
        mounts::mount(&answer, "kv/path").is_ok(),
        kv::read_plainly(&answer).is_ok(),
        kv::read_version(&answer).is_ok(),
        kv::written(&answer).is_ok(),
        kv::metadata(&answer).is_ok(),
        kv::keys(&answer).is_ok(),
        database::credentials(&answer).is_ok(),
        database::static_credentials(&answer).is_ok(),
        pki::issued(&answer).is_ok(),
        pki::authorities(&answer).is_ok(),
        pki::revocation_list(&answer).is_ok(),
        transit::signature(&answer).is_ok(),
        transit::key_versions(&answer).is_ok(),
        transit::validity(&answer).is_ok(),
        transit::items_of(&answer, "ciphertext", 2).is_ok(),
        transit::plaintexts(&answer, 2).is_ok(),
        leases::renewed(&answer, &lease).is_ok(),
        leases::state(&answer).is_ok(),
        wrapping::wrapping(&answer).is_ok(),
        answer.warnings().is_empty(),
    ];
    let refusal = Refusal::new("store", "kv/path", 404, Wiped::parse(body)?, 1);
    let mount = Mount { path: "kv".to_owned(), engine: Engine::Kv2 };
    let said = [
        kv::gone(&refusal, &mount, "data/path").is_empty(),
        leases::is_gone(&refusal),
        wrapping::is_used(&refusal),
        refusal.cause().is_configuration(),
    ];
    Ok(usable.into_iter().chain(said).filter(|read| *read).count())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer with this body.
    pub(in super::super) fn answer(body: &serde_json::Value) -> Answer {
        Answer { login: 1, body: Wiped::parse(body.to_string().as_bytes()).unwrap() }
    }

    /// A refusal with this body.
    pub(in super::super) fn refusal(status: u16, body: &serde_json::Value) -> Refusal {
        Refusal::new("store", "kv/path", status, Wiped::parse(body.to_string().as_bytes()).unwrap(), 1)
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_followed() {
        assert!(read_as_everything("[".repeat(1 << 20).as_bytes()).is_err());
    }
}
