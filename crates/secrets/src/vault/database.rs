//! Database credentials: `creds/<role>` makes a user that lives as long as its lease, `static-creds/<role>` tells the password of one
//! that the cluster rotates.

use std::time::Duration;

use serde_json::Value;
use vaultrs::api::database::requests::{GenerateCredentialsRequest, GetStaticCredentialsRequest};

use super::Vault;
use super::answer::{Answer, Failure, Operation};
use super::kv;
use super::mounts::Mount;
use crate::{Cause, Reading, StoreError};

impl Vault {
    pub(super) async fn read_database(&self, mount: &Mount, path: &str) -> Result<Reading, StoreError> {
        let below = mount.below(path).unwrap_or_default();
        let reading = if let Some(name) = below.strip_prefix("creds/") {
            let request = GenerateCredentialsRequest { mount: mount.path.clone(), name: name.to_owned() };
            credentials(&self.of_role(path, self.call(Operation::Database, &request).await)?)
        } else if let Some(name) = below.strip_prefix("static-creds/") {
            let request = GetStaticCredentialsRequest { mount: mount.path.clone(), name: name.to_owned() };
            static_credentials(&self.of_role(path, self.call(Operation::Database, &request).await)?)
        } else {
            return self.read_plainly(path).await;
        };
        reading.map_err(|cause| self.error(cause))
    }

    /// A role that is not there is a 400 here.
    fn of_role(&self, path: &str, called: Result<Answer, Failure>) -> Result<Answer, StoreError> {
        called.map_err(|failure| match failure {
            Failure::Refused(refusal) if refusal.says("unknown role") => {
                self.error(Cause::Absent(format!("role for `{path}`")))
            }
            failure => failure.into(),
        })
    }
}

/// Credentials of a new user, with the lease that removes it.
pub(super) fn credentials(answer: &Answer) -> Result<Reading, Cause> {
    let reading = kv::read_plainly(answer)?;
    if reading.lease.is_none() {
        return Err(Cause::Answer("these credentials have no lease"));
    }
    Ok(reading)
}

/// Credentials of a user whose password the cluster rotates. Vault calls the time of the last rotation `last_vault_rotation`,
/// OpenBao's documentation `last_openbao_rotation`. A rotation that is overdue is looked for every second.
pub(super) fn static_credentials(answer: &Answer) -> Result<Reading, Cause> {
    let mut reading = kv::read_plainly(answer)?;
    if !["last_vault_rotation", "last_openbao_rotation"].iter().any(|name| reading.fields.contains_key(*name))
    {
        return Err(Cause::Answer("it does not say when these credentials were rotated"));
    }
    // It differs from reading to reading, the credentials don't.
    reading.fields.remove("ttl");
    let ttl = answer.data().get("ttl").and_then(Value::as_i64);
    let ttl = ttl.ok_or(Cause::Answer("it does not say when these credentials change"))?;
    reading.changes_in = Some(Duration::from_secs(u64::try_from(ttl).unwrap_or(0).max(1)));
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vault::answers::tests::answer;

    #[test]
    fn both_names_of_the_last_rotation_are_known_and_an_overdue_one_is_a_second_away() {
        for (name, ttl, seconds) in
            [("last_vault_rotation", 40, 40), ("last_openbao_rotation", 0, 1), ("last_vault_rotation", -5, 1)]
        {
            let data = json!({ "username": "u", "password": "p", name: "2026-11-22T02:38:15Z", "ttl": ttl });
            let reading = static_credentials(&answer(&json!({ "data": data }))).unwrap();
            assert_eq!(reading.changes_in, Some(Duration::from_secs(seconds)));
            assert!(!reading.fields.contains_key("ttl"), "it would change at each reading");
        }
    }

    #[test]
    fn credentials_without_a_lease_or_a_rotation_are_not_believed() {
        let data = json!({ "data": { "username": "u", "password": "p" }, "lease_id": "" });
        assert!(credentials(&answer(&data)).is_err());
        assert!(static_credentials(&answer(&data)).is_err());
    }
}
