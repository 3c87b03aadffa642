//! Leases: renewed, revoked and looked up by their id.

use std::time::Duration;

use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::Value;

use super::Vault;
use super::answer::{Answer, Failure, Operation, Refusal};
use crate::{Cause, Lease, StoreError};

/// What the cluster knows about a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseState {
    /// What is left of it.
    pub remaining: Duration,
    /// Whether it can be renewed.
    pub is_renewable: bool,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/leases/renew", method = "POST", response = "Value")]
struct Renew {
    lease_id: String,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/leases/revoke", method = "POST", response = "Value")]
struct Revoke {
    lease_id: String,
    // Without it the answer comes before the revocation, and its failure never.
    sync: bool,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/leases/lookup", method = "POST", response = "Value")]
struct Lookup {
    lease_id: String,
}

impl Vault {
    /// After an election a new active node may not have read its leases yet: one that is not found is looked for again before it is
    /// called lost.
    pub(crate) async fn renew(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let request = Renew { lease_id: lease.id.clone() };
        let mut looks = LOOKS;
        loop {
            looks -= 1;
            match self.call(Operation::Lease, &request).await {
                Ok(answer) => return renewed(&answer, lease).map_err(|cause| self.error(cause)),
                Err(Failure::Refused(refusal)) if !is_gone(&refusal) => {
                    return Err(Failure::Refused(refusal).into());
                }
                Err(Failure::Refused(_)) if looks == 0 => return Err(self.error(Cause::LeaseLost)),
                Err(Failure::Refused(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    pub(crate) async fn revoke(&self, lease: &Lease) -> Result<(), StoreError> {
        let request = Revoke { lease_id: lease.id.clone(), sync: true };
        match self.call(Operation::Lease, &request).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal)) if is_gone(&refusal) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// What is left of a lease.
    ///
    /// # Errors
    /// [`Cause::LeaseLost`] if it is gone, as far as this node knows.
    pub async fn lookup(&self, lease: &Lease) -> Result<LeaseState, StoreError> {
        match self.call(Operation::Lease, &Lookup { lease_id: lease.id.clone() }).await {
            Ok(answer) => state(&answer).map_err(|cause| self.error(cause)),
            Err(Failure::Refused(refusal)) if is_gone(&refusal) => Err(self.error(Cause::LeaseLost)),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What a renewal gave: the same lease, for as long as the answer says.
pub(super) fn renewed(answer: &Answer, lease: &Lease) -> Result<Lease, Cause> {
    let renewed = answer.lease().ok_or(Cause::Answer("it has no lease"))?;
    if renewed.id != lease.id {
        return Err(Cause::Answer("it has another lease"));
    }
    // It dies with the login that acquired it, whichever renewed it.
    Ok(Lease { login: lease.login, ..renewed })
}

/// What is left of a lease.
pub(super) fn state(answer: &Answer) -> Result<LeaseState, Cause> {
    #[derive(Deserialize)]
    struct Data {
        ttl: i64,
        renewable: bool,
    }
    let data: Data = answer.data_as("it has no lease")?;
    let remaining = Duration::from_secs(u64::try_from(data.ttl).unwrap_or(0));
    Ok(LeaseState { remaining, is_renewable: data.renewable })
}

/// Whether the cluster says that there is no such lease (any more).
pub(super) fn is_gone(refusal: &Refusal) -> bool {
    ["lease not found", "invalid lease", "lease expired"].iter().any(|text| refusal.says(text))
}

/// How often a lease that is not found is looked for.
const LOOKS: u32 = 3;
/// An election takes up to some seconds.
const LOOK_AGAIN: Duration = Duration::from_millis(2500);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::{answer, refusal};

    fn lease() -> Lease {
        Lease {
            id: "d/creds/x/1".to_owned(),
            duration: Duration::from_secs(60),
            is_renewable: true,
            login: 7,
        }
    }

    #[test]
    fn a_renewal_keeps_the_login_that_acquired_the_lease_and_takes_the_duration_of_the_answer() {
        let body = json!({ "lease_id": "d/creds/x/1", "lease_duration": 20, "renewable": true });
        let renewed = renewed(&answer(&body), &lease()).unwrap();
        assert_eq!(renewed, Lease { duration: Duration::from_secs(20), ..lease() });
    }

    #[test]
    fn the_renewal_of_another_lease_is_refused() {
        let body = json!({ "lease_id": "d/creds/x/2", "lease_duration": 20, "renewable": true });
        assert!(renewed(&answer(&body), &lease()).is_err());
        assert!(renewed(&answer(&json!({ "lease_id": "" })), &lease()).is_err());
    }

    #[test]
    fn only_a_missing_lease_is_gone() {
        let says = |text: &str| is_gone(&refusal(400, &json!({ "errors": [text] })));
        assert!(says("lease not found") && says("invalid lease") && says("lease expired"));
        assert!(!says("lease is not renewable"));
    }
}
