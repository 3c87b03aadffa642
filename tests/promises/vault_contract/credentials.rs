//! Credentials that end: database accounts under leases, accounts that are rotated, and our own login.

use std::time::{Duration, Instant};

use secrets::Cause;
use secrets::vault::{Login, Wrapped};
use serde_json::json;
use testkit::eventually;

use super::rig::{Rig, cause, field};

pub(super) fn leased_credentials_are_renewed_and_revoked(rig: &Rig) {
    let database = rig.database();
    let (one, two) = (
        rig.wait(rig.store.read("database/creds/app")).unwrap(),
        rig.wait(rig.store.read("database/creds/app")).unwrap(),
    );
    assert_ne!(field(&one, "username"), field(&two, "username"));
    let lease = one.lease.clone().expect("a lease");
    assert!(lease.is_renewable && lease.id.starts_with("database/creds/app/"), "{lease:?}");
    assert!((59..=60).contains(&lease.duration.as_secs()), "{lease:?}");
    assert_eq!(lease.login, 1, "the login that it dies with");
    let renewed = rig.wait(rig.store.renew(&lease)).unwrap();
    assert_eq!((&renewed.id, renewed.login), (&lease.id, lease.login));
    assert!((59..=60).contains(&renewed.duration.as_secs()), "{renewed:?}");
    let state = rig.wait(rig.vault().lookup(&lease)).unwrap();
    assert!(state.is_renewable && (55..=60).contains(&state.remaining.as_secs()), "{state:?}");
    let logs_in =
        || database.as_ref().map(|db| db.logs_in(&field(&one, "username"), &field(&one, "password")));
    assert_ne!(logs_in(), Some(false));
    rig.wait(rig.store.revoke(&lease)).unwrap();
    assert_ne!(logs_in(), Some(true), "revoked means that the account is gone when the answer comes");
    assert!(rig.wait(rig.store.renew(two.lease.as_ref().unwrap())).is_ok(), "the other lease lives on");
}

pub(super) fn a_lease_that_is_gone_is_lost_and_may_be_revoked_again(rig: &Rig) {
    rig.database();
    let lease = rig.wait(rig.store.read("database/creds/app")).unwrap().lease.unwrap();
    rig.wait(rig.store.revoke(&lease)).unwrap();
    let begin = Instant::now();
    assert_eq!(cause(rig.wait(rig.store.renew(&lease))), Cause::LeaseLost);
    assert!(begin.elapsed() >= Duration::from_secs(5), "it was looked for again: {:?}", begin.elapsed());
    assert_eq!(cause(rig.wait(rig.vault().lookup(&lease))), Cause::LeaseLost);
    rig.wait(rig.store.revoke(&lease)).unwrap();
}

pub(super) fn a_renewal_never_passes_the_last_end(rig: &Rig) {
    rig.database();
    rig.role(rig.operator(), "short", "8s", "10s");
    let lease = rig.wait(rig.store.read("database/creds/short")).unwrap().lease.unwrap();
    assert!((7..=8).contains(&lease.duration.as_secs()), "{lease:?}");
    let begin = Instant::now();
    let shorter = eventually("a renewal gives less than was asked for", || {
        let renewed = rig.wait(rig.store.renew(&lease)).unwrap();
        (renewed.duration < Duration::from_secs(7)).then_some(renewed)
    });
    let end = begin.elapsed() + shorter.duration;
    assert!(end < Duration::from_secs(11), "{end:?} from the begin on is past the last end of 10 s");
}

pub(super) fn static_credentials_stay_until_they_are_rotated(rig: &Rig) {
    let database = rig.database();
    let account = rig.fresh("account");
    rig.rotate(&account, "1h");
    let path = format!("database/static-creds/{account}");
    let one = rig.wait(rig.store.read(&path)).unwrap();
    assert_eq!((field(&one, "username"), &one.lease), (account.clone(), &None));
    let changes = one.changes_in.expect("it says when").as_secs();
    assert!((3590..=3600).contains(&changes), "{changes}");
    let two = rig.wait(rig.store.read(&path)).unwrap();
    assert!(!one.fields.contains_key("ttl"), "it changes from reading to reading");
    for name in one.fields.keys() {
        assert_eq!(field(&one, name), field(&two, name), "{name} changes from reading to reading");
    }
    rig.operator().write(&format!("database/rotate-role/{account}"), &json!({}));
    let three = rig.wait(rig.store.read(&path)).unwrap();
    assert_ne!(field(&two, "password"), field(&three, "password"));
    if let Some(database) = database {
        assert!(database.logs_in(&account, &field(&three, "password")));
    }
}

pub(super) fn credentials_of_no_role_are_refused_as_configuration(rig: &Rig) {
    rig.database();
    for path in ["database/creds/nobody", "database/static-creds/nobody"] {
        let cause = cause(rig.wait(rig.store.read(path)));
        assert!(matches!(&cause, Cause::Absent(what) if what.contains("nobody")), "{path}: {cause:?}");
    }
}

pub(super) fn a_login_by_app_role_is_made_once_and_anew_when_its_token_is_gone(rig: &Rig) {
    let name = rig.fresh("login");
    rig.operator().put(&format!("secret/{name}"), &json!({ "v": "1" }));
    let policy = format!(
        "path \"secret/data/{name}\" {{ capabilities = [\"read\"] }}\n\
         path \"auth/token/create-orphan\" {{ capabilities = [\"update\", \"sudo\"] }}"
    );
    let other = rig.log_in_under(&policy);
    let path = format!("secret/{name}");
    for _ in 0..3 {
        assert_eq!(field(&rig.wait(other.store.read(&path)).unwrap(), "v"), "1");
    }
    let status = other.vault.status(std::time::UNIX_EPOCH);
    assert!(status.is_reachable && status.is_logged_in && status.logins == 1, "{status:?}");
    rig.revoke_logins();
    eventually("it logs in anew and reads again", || rig.wait(other.store.read(&path)).ok());
    assert_eq!(other.vault.status(std::time::UNIX_EPOCH).logins, 2);
}

pub(super) fn a_wrapped_secret_id_is_good_once(rig: &Rig) {
    let name = rig.fresh("wrapped");
    let (role_id, _) = rig.operator().set_up_app_role(&name, &[], &json!({}));
    let wrapping = rig.operator().wrapped_secret_id(&name);
    let (role_id, secret_id) = (rig.file(&role_id), rig.file(&wrapping));
    let login = |role: &str| Login::AppRole {
        mount: "approle".to_owned(),
        role_id: role_id.clone(),
        secret_id: Some(secret_id.clone()),
        wrapped: Some(Wrapped { role: role.to_owned() }),
    };
    let refused = |login| {
        let other = rig.log_in(login);
        match cause(rig.wait(other.store.read("secret/x"))) {
            Cause::LoginRefused(why) => why,
            cause => panic!("{cause:?}"),
        }
    };
    let elsewhere = refused(login("another"));
    assert!(elsewhere.contains("made for") || elsewhere.contains("another"), "{elsewhere}");
    let good = rig.log_in(login(&name));
    assert!(matches!(cause(rig.wait(good.store.read("secret/x"))), Cause::Denied(_)), "it is logged in");
    let used = refused(login(&name));
    assert!(used.contains("used"), "{used}");
}
