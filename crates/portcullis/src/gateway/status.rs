//! What `portcullis status` shows of the running gateway.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use jiff::Timestamp;
use secrets::Store;
use serde_json::{Map, Value, json};

use super::generation::Living;
use super::reload::Reloader;

/// The state as JSON; nothing in it is a secret.
pub(super) fn status(reloader: &Reloader, now: SystemTime) -> Value {
    let report = reloader.readiness.report();
    let snapshot = reloader.cores.snapshot.as_ref().map(|snapshot| snapshot.load_full());
    let listeners = reloader.addresses.iter().map(|(name, address)| {
        let listener = snapshot.as_ref().and_then(|snapshot| snapshot.listeners.get(name.as_str()));
        let open = listener.map(|listener| listener.open.load(Ordering::Relaxed));
        let waits_for = reloader.waits_for(name);
        (
            name.to_string(),
            json!({ "address": address.to_string(), "connections": open, "waits_for": waits_for }),
        )
    });
    let (enforced, shadow) = snapshot.as_ref().map_or((0, 0), |snapshot| snapshot.engine.policy_count());
    let shadows = snapshot.iter().flat_map(|snapshot| snapshot.engine.shadow_counters()).map(|count| {
        json!({
            "policy": count.policy.to_string(),
            "applied": count.applied,
            "would_change": count.would_change,
            "erred": count.erred,
        })
    });
    let refusals = reloader.metrics.refusals();
    let failures = reloader.metrics.material_failures();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": timestamp(reloader.started),
        "uptime_seconds": now.duration_since(reloader.started).map_or(0, |up| up.as_secs()),
        "ready": report.ready,
        "draining": report.draining,
        "pending": report.pending,
        "degraded": report.degraded,
        "configuration": {
            "file": reloader.file.display().to_string(),
            "generation": snapshot.as_ref().map(|snapshot| snapshot.generation),
            "last_reload": timestamp(reloader.last.at),
            "last_reload_ok": reloader.last.problems.is_empty(),
            "problems": reloader.last.problems,
        },
        "listeners": listeners.collect::<Map<_, _>>(),
        "routes": snapshot.as_ref().map(|snapshot| snapshot.routes.len()),
        "policies": { "enforced": enforced, "shadow": shadow, "shadows": shadows.collect::<Vec<_>>() },
        "certificates": certificates(&reloader.living, now),
        "trust": trust(&reloader.living, now),
        "denied": reloader.deny.status(),
        "keys": keys(&reloader.living, now),
        "upstreams": upstreams(&reloader.living),
        "stores": stores(&reloader.living, now),
        "material": material(&reloader.living, now),
        "refusals": refusals.into_iter().map(|(code, count)| (code.to_owned(), json!(count))).collect::<Map<_, _>>(),
        "renewal_failures": failures.into_iter().map(|(name, count)| (name, json!(count))).collect::<Map<_, _>>(),
    })
}

fn certificates(living: &Living, now: SystemTime) -> Map<String, Value> {
    let entry = |held: &super::slots::Held<_, tls::Credential>| {
        held.reader().load().map(|credential| {
            json!({
                "serial": credential.serial(),
                "fingerprint": credential.fingerprint(),
                "names": credential.dns_names().collect::<Vec<_>>(),
                "not_after": timestamp(credential.not_after()),
                "seconds_left": left(credential.not_after(), now),
            })
        })
    };
    living.certificates.iter().map(|(name, held)| (name.to_string(), json!(entry(held)))).collect()
}

fn trust(living: &Living, now: SystemTime) -> Map<String, Value> {
    let entry = |held: &super::slots::Held<_, tls::Trust>| {
        held.reader().load().map(|trust| {
            let (authorities, with_crl) = trust.authorities();
            json!({
                "authorities": authorities,
                "authorities_with_crl": with_crl,
                "not_after": trust.not_after().map(timestamp),
                "seconds_left": trust.not_after().map(|end| left(end, now)),
                "crl_next_update": trust.crl_next_update().map(timestamp),
                "crl_seconds_left": trust.crl_next_update().map(|end| left(end, now)),
            })
        })
    };
    living.trust.iter().map(|(name, held)| (name.to_string(), json!(entry(held)))).collect()
}

fn keys(living: &Living, now: SystemTime) -> Map<String, Value> {
    let entry = |store: &identity::jwks::KeyStore| {
        let status = store.status(now);
        json!({
            "keys": status.keys,
            "generation": status.generation,
            "fetched": status.fetched.map(timestamp),
            "age_seconds": status.age.map(|age| age.as_secs()),
            "available": !status.is_unavailable,
            "last_error": status.last_error.map(|(reason, at)| json!({ "reason": reason, "at": timestamp(at) })),
        })
    };
    living.issuers.iter().map(|(name, issuer)| (name.to_string(), entry(&issuer.keys.store))).collect()
}

fn stores(living: &Living, now: SystemTime) -> Map<String, Value> {
    let entry = |store: &Store| match store {
        Store::Embedded(_) => json!({ "kind": "embedded" }),
        Store::Vault(vault) => {
            let status = vault.status(now);
            json!({
                "kind": "vault",
                "address": status.address,
                "reachable": status.is_reachable,
                "failure": status.failure.map(|(cause, since)| {
                    json!({ "reason": cause.to_string(), "class": cause.word(), "since": timestamp(since) })
                }),
                "logged_in": status.is_logged_in,
                "token_ends": status.token_ends.map(timestamp),
                "token_seconds_left": status.token_ends.map(|ends| left(ends, now)),
                "logins": status.logins,
                "renewals": status.renewals,
                "cut_until": status.cut_until.map(timestamp),
            })
        }
    };
    living.stores.iter().map(|(name, living)| (name.to_string(), entry(&living.store))).collect()
}

fn upstreams(living: &Living) -> Map<String, Value> {
    let now = tokio::time::Instant::now();
    living.upstreams.iter().map(|(name, living)| (name.to_string(), living.status(now))).collect()
}

/// What comes from stores: how old it is, how long it lives, and why it is not renewed if it is not.
fn material(living: &Living, now: SystemTime) -> Vec<Value> {
    let jobs = living.jobs.iter().map(|((kind, name), job)| {
        let progress = job.progress();
        let failure = progress.last_error.filter(|_| progress.failures > 0);
        let ends = progress.held.and_then(|life| life.ends);
        json!({
            "kind": kind.as_str(),
            "name": name.to_string(),
            "held": progress.held.is_some(),
            "age_seconds": progress.held.map(|life| -left(life.obtained, now)),
            "ends": ends.map(timestamp),
            "seconds_left": ends.map(|ends| left(ends, now)),
            "renewals": progress.renewals,
            "next": progress.next.map(timestamp),
            "failures": progress.failures,
            "failure": failure.map(|failure| {
                json!({ "reason": failure.reason, "class": failure.word, "at": timestamp(failure.at) })
            }),
        })
    });
    jobs.collect()
}

pub(super) fn timestamp(time: SystemTime) -> Option<String> {
    let timestamp = Timestamp::try_from(time).ok()?;
    Timestamp::from_second(timestamp.as_second()).ok().map(|whole| whole.to_string())
}

/// Seconds until `end`; negative when it has passed.
pub(super) fn left(end: SystemTime, now: SystemTime) -> i64 {
    let seconds = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    end.duration_since(now).map_or_else(|past| -seconds(past.duration()), seconds)
}
