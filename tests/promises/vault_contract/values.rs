//! Values: key-value secrets of both versions, and what is not there.

use secrets::Cause;
use secrets::vault::Replaces;
use serde_json::json;

use super::rig::{Rig, cause, field, fields};

pub(super) fn a_value_is_read_as_it_was_stored(rig: &Rig) {
    for value in ["plain", " white\tspace \n", "ünïcødé 🔑", "{\"json\": 1}"] {
        let path = rig.keep_value(value);
        assert_eq!(field(&rig.wait(rig.store.read(&path)).unwrap(), "value"), value);
    }
}

pub(super) fn what_is_not_there_is_absent(rig: &Rig) {
    for path in ["secret/never/written", "nowhere/at/all"] {
        let cause = cause(rig.wait(rig.store.read(path)));
        assert!(matches!(&cause, Cause::Absent(what) if what.contains(path)), "{path}: {cause:?}");
    }
}

pub(super) fn versioned_fields_come_with_their_version_and_without_their_types(rig: &Rig) {
    let path = rig.fresh("secret/typed");
    rig.operator().put(&path, &json!({ "first": "x" }));
    rig.operator()
        .put(&path, &json!({ "text": "x", "number": 42, "list": [1, null], "nothing": null, "yes": true }));
    let reading = rig.wait(rig.store.read(&path)).unwrap();
    let read = ["text", "number", "list", "nothing", "yes"].map(|name| field(&reading, name));
    assert_eq!(read, ["x", "42", "[1,null]", "null", "true"]);
    assert_eq!((reading.version, reading.lease, reading.changes_in), (Some(2), None, None));
    assert!(!reading.fields.contains_key("first"));
}

pub(super) fn fields_without_versions_are_read_by_the_same_path(rig: &Rig) {
    let mount = rig.mount("kv");
    rig.operator().write(&format!("{mount}/a/b"), &json!({ "password": "p" }));
    let reading = rig.wait(rig.store.read(&format!("{mount}/a/b"))).unwrap();
    assert_eq!((field(&reading, "password").as_str(), reading.version, reading.lease), ("p", None, None));
    let gone = cause(rig.wait(rig.store.read(&format!("{mount}/a/c"))));
    assert!(matches!(gone, Cause::Absent(_)), "{gone:?}");
}

pub(super) fn a_deleted_and_a_destroyed_version_are_absent_and_say_so(rig: &Rig) {
    let path = rig.fresh("deleted");
    rig.operator().put(&format!("secret/{path}"), &json!({ "a": "b" }));
    rig.operator().delete(&format!("secret/data/{path}"));
    let deleted = cause(rig.wait(rig.store.read(&format!("secret/{path}"))));
    assert!(matches!(&deleted, Cause::Absent(what) if what.ends_with("version is deleted")), "{deleted:?}");
    rig.operator().write(&format!("secret/destroy/{path}"), &json!({ "versions": [1] }));
    let destroyed = cause(rig.wait(rig.store.read(&format!("secret/{path}"))));
    assert!(
        matches!(&destroyed, Cause::Absent(what) if what.ends_with("version is destroyed")),
        "{destroyed:?}"
    );
    let metadata = rig.wait(rig.vault().metadata(&format!("secret/{path}"))).unwrap();
    assert_eq!(metadata.current_version, 1, "a version that is gone still counts");
}

pub(super) fn the_path_of_the_api_gets_a_hint(rig: &Rig) {
    let name = rig.fresh("hinted");
    rig.operator().put(&format!("secret/{name}"), &json!({ "a": "b" }));
    let absent = cause(rig.wait(rig.store.read(&format!("secret/data/{name}"))));
    let hint = format!("as `vault kv get` takes it: `secret/{name}`");
    assert!(matches!(&absent, Cause::Absent(what) if what.contains(&hint)), "{absent:?}");
    // A policy says nothing about the path of the API below the path of the API: denied, with the same hint.
    let policy = format!("path \"secret/data/{name}\" {{ capabilities = [\"read\"] }}");
    let other = rig.log_in_under(&policy);
    let denied = cause(rig.wait(other.store.read(&format!("secret/data/{name}"))));
    assert!(matches!(&denied, Cause::Denied(what) if what.contains(&hint)), "{denied:?}");
}

pub(super) fn a_mount_that_is_replaced_is_noticed(rig: &Rig) {
    let mount = rig.mount("kv");
    let path = format!("{mount}/a");
    rig.operator().write(&path, &json!({ "v": "1" }));
    assert_eq!(field(&rig.wait(rig.store.read(&path)).unwrap(), "v"), "1");
    rig.operator().delete(&format!("sys/mounts/{mount}"));
    assert!(matches!(cause(rig.wait(rig.store.read(&path))), Cause::Absent(_) | Cause::Denied(_)));
    rig.operator().enable("kv-v2", &mount);
    testkit::eventually("the new mount takes values", || {
        let body = json!({ "data": { "v": "2" } });
        (rig.operator().call("POST", &format!("{mount}/data/a"), Some(&body)).0 == 200).then_some(())
    });
    assert_eq!(field(&rig.wait(rig.store.read(&path)).unwrap(), "v"), "2");
}

pub(super) fn a_write_holds_only_against_the_version_it_was_made_from(rig: &Rig) {
    let (path, vault) = (rig.fresh("secret/written"), rig.vault());
    let write =
        |value: &str, replaces| rig.wait(vault.write(&path, &fields(&json!({ "v": value })), replaces));
    assert_eq!(write("1", Replaces::Version(0)).unwrap(), Some(1));
    assert_eq!(cause(write("x", Replaces::Version(0))), Cause::Conflict);
    assert_eq!(write("2", Replaces::Version(1)).unwrap(), Some(2));
    assert_eq!(cause(write("x", Replaces::Version(1))), Cause::Conflict);
    assert_eq!(write("3", Replaces::Anything).unwrap(), Some(3));
    assert_eq!(field(&rig.wait(rig.store.read(&path)).unwrap(), "v"), "3");
    let plain = format!("{}/a", rig.mount("kv"));
    let unversioned = rig.wait(vault.write(&plain, &fields(&json!({ "v": "1" })), Replaces::Version(0)));
    assert!(matches!(cause(unversioned), Cause::Refused(_)));
    assert_eq!(
        rig.wait(vault.write(&plain, &fields(&json!({ "v": "1" })), Replaces::Anything)).unwrap(),
        None
    );
    assert_eq!(field(&rig.wait(rig.store.read(&plain)).unwrap(), "v"), "1");
}

pub(super) fn a_patch_keeps_the_other_fields_as_they_are(rig: &Rig) {
    let (path, vault) = (rig.fresh("secret/patched"), rig.vault());
    rig.operator().put(&path, &json!({ "kept": [1, 2], "changed": "old" }));
    let patched = rig.wait(vault.patch(&path, &fields(&json!({ "changed": "new" })))).unwrap();
    assert_eq!(patched, Some(2));
    let (mount, name) = path.split_once('/').unwrap();
    let stored = rig.operator().read(&format!("{mount}/data/{name}"));
    assert_eq!(stored["data"]["data"], json!({ "kept": [1, 2], "changed": "new" }));
}

pub(super) fn names_below_a_path_are_listed(rig: &Rig) {
    let place = rig.fresh("secret/listed");
    for name in ["b", "a", "c/d"] {
        rig.operator().put(&format!("{place}/{name}"), &json!({ "v": "1" }));
    }
    assert_eq!(rig.wait(rig.vault().list(&place)).unwrap(), ["a", "b", "c/"]);
    assert_eq!(rig.wait(rig.vault().list(&format!("{place}/x"))).unwrap(), [""; 0]);
    let metadata = rig.wait(rig.vault().metadata(&format!("{place}/a"))).unwrap();
    assert_eq!((metadata.current_version, metadata.custom_metadata.len()), (1, 0));
}

pub(super) fn what_a_policy_does_not_allow_is_denied_and_not_absent(rig: &Rig) {
    let (allowed, denied) = (rig.fresh("allowed"), rig.fresh("denied"));
    for name in [&allowed, &denied] {
        rig.operator().put(&format!("secret/{name}"), &json!({ "v": "1" }));
    }
    let other = rig.log_in_under(&format!("path \"secret/data/{allowed}\" {{ capabilities = [\"read\"] }}"));
    assert_eq!(field(&rig.wait(other.store.read(&format!("secret/{allowed}"))).unwrap(), "v"), "1");
    let mount = rig.mount("kv");
    for path in [format!("secret/{denied}"), format!("{mount}/x"), "nowhere/x".to_owned()] {
        let cause = cause(rig.wait(other.store.read(&path)));
        assert!(matches!(cause, Cause::Denied(_)), "{path}: {cause:?}");
    }
}
