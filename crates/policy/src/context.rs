//! The request's context, built from no more than what is read: a function of the facts alone.

use std::cell::RefCell;
use std::hash::Hash;
use std::net::IpAddr;
use std::thread::LocalKey;
use std::time::{SystemTime, UNIX_EPOCH};

use cedar_policy::{Context, RestrictedExpression};
use percent_encoding::percent_decode_str;

use crate::facts::{CertificateFacts, Facts, TlsFacts};
use crate::reads::Reads;
use crate::recent::Recent;

/// The context of `facts` with the attributes in `reads`; `None` (which denies) if the time is beyond Cedar's years.
pub(crate) fn context(facts: &Facts<'_>, reads: Reads) -> Option<Context> {
    if reads == Reads::NOTHING {
        return Some(Context::empty());
    }
    let mut pairs = Vec::with_capacity(7);
    let mut push = |name: &str, value| pairs.push((name.to_owned(), value));
    if reads.contains(Reads::METHOD) {
        push("method", string(facts.method));
    }
    if reads.contains(Reads::HOST) {
        push("host", string(facts.host));
    }
    if reads.contains(Reads::PATH) {
        push("path", string(facts.path));
    }
    if reads.contains(Reads::QUERY) {
        push("query", RestrictedExpression::new_set(query_keys(facts.query.unwrap_or_default())));
    }
    if reads.contains(Reads::ADDRESS) {
        push(
            "address",
            remembered(&ADDRESSES, facts.address.to_canonical(), |address| {
                Some(RestrictedExpression::new_ip(address.to_string()))
            })?,
        );
    }
    if reads.contains(Reads::TIME) {
        push(
            "time",
            remembered(&TIMES, seconds(facts.now)?, |seconds| {
                let timestamp = jiff::Timestamp::from_second(*seconds).ok()?;
                Some(RestrictedExpression::new_datetime(timestamp.to_string()))
            })?,
        );
    }
    if reads.contains(Reads::TLS)
        && let Some(version) = facts.tls.version
    {
        push("tls", tls(version, &facts.tls)?);
    }
    Context::from_pairs(pairs).ok()
}

fn string(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// The keys of a query, decoded as forms are (WHATWG URL, application/x-www-form-urlencoded): a key that is spelled
/// in escapes is still that key.
fn query_keys(query: &str) -> impl Iterator<Item = RestrictedExpression> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key).replace('+', " ");
        RestrictedExpression::new_string(percent_decode_str(&key).decode_utf8_lossy().into_owned())
    })
}

/// The time in whole seconds.
fn seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => Some(-i64::try_from(before.duration().as_secs()).ok()?),
    }
}

/// The expression that stands for `key`. Cedar parses the name of the extension function each time that it builds
/// one, which takes longer than the decision: so the last ones are kept, per core.
fn remembered<K: Eq + Hash + Clone>(
    memory: &'static LocalKey<RefCell<Recent<K, RestrictedExpression>>>,
    key: K,
    build: impl FnOnce(&K) -> Option<RestrictedExpression>,
) -> Option<RestrictedExpression> {
    memory.with_borrow_mut(|memory| {
        memory.find(&key).or_else(|| {
            let expression = build(&key)?;
            memory.insert(key, expression.clone());
            Some(expression)
        })
    })
}

thread_local! {
    static ADDRESSES: RefCell<Recent<IpAddr, RestrictedExpression>> = RefCell::new(Recent::new(512));
    static TIMES: RefCell<Recent<i64, RestrictedExpression>> = RefCell::new(Recent::new(2));
}

fn tls(version: &str, facts: &TlsFacts<'_>) -> Option<RestrictedExpression> {
    let mut pairs = vec![("version".to_owned(), string(version))];
    if let Some(sni) = facts.sni {
        pairs.push(("sni".to_owned(), string(sni)));
    }
    if let Some(certificate) = &facts.client_certificate {
        pairs.push(("client".to_owned(), client(certificate)?));
    }
    RestrictedExpression::new_record(pairs).ok()
}

fn client(certificate: &CertificateFacts<'_>) -> Option<RestrictedExpression> {
    let pairs = [
        ("name", certificate.name),
        ("fingerprint", certificate.fingerprint),
        ("serial", certificate.serial),
    ];
    RestrictedExpression::new_record(pairs.map(|(name, value)| (name.to_owned(), string(value)))).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::action;
    use crate::facts::tests::facts;
    use crate::schema::{self, ClaimSchema};

    #[test]
    fn a_full_context_conforms_to_the_schema_for_every_action() {
        let schema = schema::parse(&ClaimSchema::new()).unwrap();
        let mut facts = facts();
        facts.query = Some("a=1&b&&%63=2&d+e=");
        for tls in [
            TlsFacts::default(),
            TlsFacts { version: Some("1.3"), sni: None, client_certificate: None },
            TlsFacts {
                version: Some("1.2"),
                sni: Some("a.example.com"),
                client_certificate: Some(CertificateFacts { name: "a", fingerprint: "b", serial: "c" }),
            },
        ] {
            facts.tls = tls;
            let context = context(&facts, Reads::EVERYTHING).unwrap();
            for action in action::ALL {
                context.validate(&schema, &action.uid()).unwrap();
            }
        }
    }

    #[test]
    fn keys_that_are_spelled_in_escapes_are_the_same_keys() {
        let keys: Vec<_> = query_keys("%61dmin=1&b=2=3&c&&d+e&=f&%ff").collect();
        assert_eq!(keys, ["admin", "b", "c", "d e", "", "\u{fffd}"].map(string));
        assert_eq!(query_keys("").count(), 0);
    }

    #[test]
    fn each_address_and_time_is_its_own_however_often_it_was_seen() {
        for _ in 0..2 {
            for (address, time) in [("10.0.0.1", 1), ("10.0.0.2", 2), ("::ffff:10.0.0.1", 1)] {
                let mut facts = facts();
                facts.address = address.parse().unwrap();
                facts.now = UNIX_EPOCH + Duration::from_secs(time);
                let expected = [
                    (
                        "address".to_owned(),
                        RestrictedExpression::new_ip(facts.address.to_canonical().to_string()),
                    ),
                    (
                        "time".to_owned(),
                        RestrictedExpression::new_datetime(format!("1970-01-01T00:00:0{time}Z")),
                    ),
                ];
                assert_eq!(context(&facts, Reads::ADDRESS | Reads::TIME), Context::from_pairs(expected).ok());
            }
        }
    }

    #[test]
    fn only_what_is_read_is_built() {
        let built = context(&facts(), Reads::PATH).unwrap();
        assert_eq!(built.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["path"]);
    }

    #[test]
    fn a_time_before_1970_is_a_time_and_one_beyond_year_9999_denies() {
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), Some(-1));
        let mut facts = facts();
        facts.now = UNIX_EPOCH - Duration::from_secs(1);
        assert!(context(&facts, Reads::TIME).is_some());
        facts.now = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(context(&facts, Reads::TIME).is_none());
    }
}
