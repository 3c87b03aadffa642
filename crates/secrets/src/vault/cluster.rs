//! The nodes of one cluster: which is asked, what its answer means, and when another is asked instead.
//!
//! The node that answered last is asked first. Another one is asked when a node gave no connection, is sealed, has no active
//! node behind it, has not caught up, or points to one of the other configured nodes. Nothing is sent to an address that is
//! not configured, whatever a node points to. A request that may have been done is sent again only if that does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use jiff::fmt::rfc2822;
use rustify_derive::Endpoint;
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use super::answer::{Operation, Wiped};
use super::request::Request;
use super::settings::Settings;
use super::transport::{Body, Wire};
use crate::Cause;

/// The nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    wire: Arc<dyn Wire>,
    addresses: Vec<Url>,
    namespace: Option<String>,
    timeout: Duration,
    /// The node that is asked first.
    current: AtomicUsize,
}

/// What a node answered: done (2xx) or refused (400, 403, 404, 405 and the like).
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Wiped,
}

/// What one attempt at one node came to.
enum Attempt {
    Answered(Result<Reply, Cause>),
    /// Not done by this node: another one may.
    Elsewhere(Cause),
    /// Not done: this one of the configured nodes is pointed to.
    At(usize),
}

impl Cluster {
    pub(super) fn new(settings: &Settings, wire: Arc<dyn Wire>) -> Self {
        Self {
            wire,
            addresses: settings.addresses.clone(),
            namespace: settings.namespace.clone().filter(|namespace| !namespace.is_empty()),
            timeout: settings.timeout,
            current: AtomicUsize::new(0),
        }
    }

    /// The address that is asked first.
    pub(super) fn address(&self) -> String {
        self.addresses.get(self.current.load(Ordering::Relaxed)).map(Url::to_string).unwrap_or_default()
    }

    /// Asks the nodes, one after the other.
    ///
    /// # Errors
    /// Why none of them answered: what the first one said, unless another one told more.
    pub(super) async fn send(&self, request: &Request, token: Option<&SecretString>) -> Result<Reply, Cause> {
        let count = self.addresses.len();
        let first = self.current.load(Ordering::Relaxed);
        let mut left: Vec<usize> = (0..count).map(|step| (first + step) % count).rev().collect();
        let (mut failure, mut is_redirected) = (None, false);
        while let Some(node) = left.pop() {
            match self.attempt(node, request, token).await {
                Attempt::Answered(Ok(reply)) => {
                    self.current.store(node, Ordering::Relaxed);
                    return Ok(reply);
                }
                Attempt::Answered(Err(cause)) => {
                    if matches!(cause, Cause::Timeout | Cause::Answer(_)) {
                        self.current.store((node + 1) % count, Ordering::Relaxed);
                    }
                    return Err(more_telling(failure, cause));
                }
                Attempt::At(other) if !is_redirected => {
                    is_redirected = true;
                    left.retain(|one| *one != other);
                    left.push(other);
                }
                Attempt::At(_) => failure = Some(more_telling(failure, Cause::Standby)),
                Attempt::Elsewhere(cause) => failure = Some(more_telling(failure, cause)),
            }
        }
        Err(failure.unwrap_or(Cause::Standby))
    }

    /// Asks all nodes for their health at once, and makes the best one the first to be asked.
    ///
    /// # Errors
    /// Why none of them can be used.
    pub(super) async fn health(&self) -> Result<(), Cause> {
        let mut asked = JoinSet::new();
        for (node, url) in self.addresses.iter().enumerate() {
            let request = Request::new(Operation::Health, &Health {})?.to_node(url, None, None)?;
            let leader = Request::new(Operation::Health, &Leader {})?.to_node(url, None, None)?;
            let (wire, limit) = (Arc::clone(&self.wire), self.timeout.min(PROBE));
            asked.spawn(async move {
                let standing = timeout(limit, standing(&*wire, node, request, leader)).await;
                (node, standing.unwrap_or(Err(Cause::Timeout)))
            });
        }
        let mut best: Option<(Standing, usize)> = None;
        let mut failure = None;
        while let Some(judged) = asked.join_next().await {
            match judged {
                Ok((node, Ok(standing))) => best = best.max(Some((standing, usize::MAX - node))),
                Ok((_, Err(cause))) => failure = Some(more_telling(failure, cause)),
                Err(_) => failure = Some(more_telling(failure, Cause::Answer("it cannot be read"))),
            }
        }
        match best {
            Some((_, reversed)) => {
                self.current.store(usize::MAX - reversed, Ordering::Relaxed);
                Ok(())
            }
            None => Err(failure.unwrap_or(Cause::Standby)),
        }
    }

    /// Asks one node, again if it has not caught up or the connection broke.
    async fn attempt(&self, node: usize, request: &Request, token: Option<&SecretString>) -> Attempt {
        let first = self.once(node, request, token).await;
        match &first {
            Attempt::Elsewhere(Cause::Inconsistent) => {
                sleep(Duration::from_secs_f64(0.05 + 0.45 * fastrand::f64())).await;
                self.once(node, request, token).await
            }
            // A connection of the pool that the node had closed meanwhile looks the same as one that broke.
            Attempt::Answered(Err(Cause::Answer(BROKE))) if request.is_repeatable() => {
                match self.once(node, request, token).await {
                    Attempt::Answered(Err(cause @ Cause::Answer(BROKE))) => Attempt::Elsewhere(cause),
                    second => second,
                }
            }
            _ => first,
        }
    }

    async fn once(&self, node: usize, request: &Request, token: Option<&SecretString>) -> Attempt {
        let Some(url) = self.addresses.get(node) else { return Attempt::Elsewhere(Cause::Standby) };
        let written = match request.to_node(url, self.namespace.as_deref(), token) {
            Ok(written) => written,
            Err(cause) => return Attempt::Answered(Err(cause)),
        };
        match timeout(self.timeout, self.wire.send(node, written)).await {
            Err(_) => Attempt::Answered(Err(Cause::Timeout)),
            Ok(Err(fault)) if fault.may_be_done => Attempt::Answered(Err(fault.cause)),
            Ok(Err(fault)) => Attempt::Elsewhere(fault.cause),
            Ok(Ok(response)) => self.read(url, &response),
        }
    }

    fn read(&self, url: &Url, response: &http::Response<Body>) -> Attempt {
        let status = response.status();
        if status.is_redirection() {
            return self.pointed(url, response.headers());
        }
        match judge(status, response.headers(), response.body()) {
            Ok(body) => Attempt::Answered(Ok(Reply { status, body })),
            Err(cause @ (Cause::Sealed | Cause::Uninitialised | Cause::Standby | Cause::Inconsistent)) => {
                Attempt::Elsewhere(cause)
            }
            Err(cause) => Attempt::Answered(Err(cause)),
        }
    }

    /// Where a standby points to: one of the configured nodes, or nowhere.
    fn pointed(&self, url: &Url, headers: &HeaderMap) -> Attempt {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| url.join(location).ok());
        let node = target
            .and_then(|target| self.addresses.iter().position(|address| address.origin() == target.origin()));
        node.map_or(Attempt::Elsewhere(Cause::Standby), Attempt::At)
    }
}

/// What an answer's status means, with its body where there is one to be had.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Wiped, Cause> {
    if status.is_success() {
        return Wiped::parse(body);
    }
    let parsed = Wiped::parse(body).unwrap_or_default();
    match status.as_u16() {
        412 => Err(Cause::Inconsistent),
        429 => Err(Cause::Throttled { retry_after: retry_after(headers) }),
        472 | 474 => Err(Cause::Standby),
        473 => Err(Cause::Inconsistent),
        501 => Err(Cause::Uninitialised),
        530 => Err(Cause::Standby),
        code @ 500.. => Err(server(code, &parsed)),
        // A load balancer's own 404 is no word of Vault's: its refusals are JSON with `errors` or `data`.
        _ if parsed.is_object() => Ok(parsed),
        _ => Err(Cause::Answer(NOT_VAULT)),
    }
}

/// Sealed and election are told by words.
fn server(status: u16, body: &Value) -> Cause {
    let errors = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let says = |text: &str| errors.iter().filter_map(Value::as_str).any(|error| error.contains(text));
    if status == 503 && says("sealed") {
        return Cause::Sealed;
    }
    if says("active cluster node not found")
        || says("local node not active")
        || (status == 503 && says("standby"))
    {
        return Cause::Standby;
    }
    Cause::Server { status }
}

/// Seconds, or a date measured by the answer's own (RFC 9110 section 10.2.3): our clock does not count.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let text = field(RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (rfc2822::parse(text).ok()?, rfc2822::parse(field(DATE)?).ok()?);
    Duration::try_from(then.timestamp().duration_since(now.timestamp())).ok()
}

/// How much a node is good for; the later, the better.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Standing {
    Standby,
    PerformanceStandby,
    Active,
}

/// What a node is good for, by its own account.
async fn standing(
    wire: &dyn Wire,
    node: usize,
    health: http::Request<Bytes>,
    leader: http::Request<Bytes>,
) -> Result<Standing, Cause> {
    let answer = wire.send(node, health).await.map_err(|fault| fault.cause)?;
    let standing = judge_health(answer.status())?;
    if Wiped::parse(answer.body())?.get("initialized").is_none() {
        return Err(Cause::Answer(NOT_VAULT));
    }
    if standing == Standing::Standby {
        judge_leader(wire.send(node, leader).await.map_err(|fault| fault.cause)?.body())?;
    }
    Ok(standing)
}

/// What `sys/health` says by its status.
fn judge_health(status: StatusCode) -> Result<Standing, Cause> {
    match status.as_u16() {
        200 => Ok(Standing::Active),
        429 => Ok(Standing::Standby),
        473 => Ok(Standing::PerformanceStandby),
        472 | 474 | 530 => Err(Cause::Standby),
        501 => Err(Cause::Uninitialised),
        503 => Err(Cause::Sealed),
        status => Err(Cause::Server { status }),
    }
}

/// A standby is of use while it knows an active node to forward to.
fn judge_leader(body: &Body) -> Result<(), Cause> {
    let answer = Wiped::parse(body)?;
    match answer.get("leader_address").and_then(Value::as_str) {
        Some(address) if !address.is_empty() => Ok(()),
        _ => Err(Cause::Standby),
    }
}

/// Of two causes the one that says more: a node that answered knows better than one that did not; else the first.
fn more_telling(first: Option<Cause>, second: Cause) -> Cause {
    let rank = |cause: &Cause| match cause {
        Cause::Sealed | Cause::Uninitialised => 2,
        Cause::Standby | Cause::Inconsistent | Cause::Throttled { .. } | Cause::Server { .. } => 1,
        _ => 0,
    };
    match first {
        Some(first) if rank(&first) >= rank(&second) => first,
        _ => second,
    }
}

#[derive(Endpoint)]
#[endpoint(path = "sys/health")]
struct Health {}

#[derive(Endpoint)]
#[endpoint(path = "sys/leader")]
struct Leader {}

/// What somebody else answered in its place: a load balancer, a captive page.
const NOT_VAULT: &str = "it is not Vault's";
/// What `transport` calls a connection that broke.
pub(super) const BROKE: &str = "the connection broke";
/// A probe's own timeout: with the gap between probes it keeps recovery under 5 s.
const PROBE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_answers_own_clock_or_nothing() {
        let after =
            |value| retry_after(&headers(&[(RETRY_AFTER, value), (DATE, "Sun, 06 Nov 1994 08:49:37 GMT")]));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        for nothing in ["Sun, 06 Nov 1994 08:00:00 GMT", "soon", "", "-3"] {
            assert_eq!(after(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&headers(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT")])), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn health_429_is_a_standby_and_a_requests_429_is_a_quota() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        assert_eq!(judge_health(status(429)), Ok(Standing::Standby));
        assert!(matches!(
            judge(status(429), &HeaderMap::new(), b""),
            Err(Cause::Throttled { retry_after: None })
        ));
        assert_eq!(judge_health(status(473)), Ok(Standing::PerformanceStandby));
        assert_eq!(judge_health(status(472)), Err(Cause::Standby));
        assert_eq!(judge_health(status(501)), Err(Cause::Uninitialised));
        assert_eq!(judge_health(status(503)), Err(Cause::Sealed));
        assert_eq!(judge_health(status(500)), Err(Cause::Server { status: 500 }));
    }

    #[test]
    fn a_standby_that_knows_no_active_node_is_of_no_use() {
        let leader = |address: &str| {
            judge_leader(&Body::new(format!("{{\"leader_address\":\"{address}\"}}").into_bytes()))
        };
        assert_eq!(leader("https://10.0.0.1:8200"), Ok(()));
        assert_eq!(leader(""), Err(Cause::Standby));
    }

    #[test]
    fn of_several_nodes_the_one_that_answered_says_why() {
        let refused = || Cause::Connect("refused".to_owned());
        assert_eq!(more_telling(Some(refused()), Cause::Sealed), Cause::Sealed);
        assert_eq!(more_telling(Some(Cause::Sealed), refused()), Cause::Sealed);
        assert_eq!(more_telling(Some(refused()), Cause::Timeout), refused());
    }
}
