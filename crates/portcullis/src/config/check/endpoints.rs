//! How an upstream's endpoints are found, checked and chosen.

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;

use super::listener::{count, time};
use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{Balance, Breaker, Circuit, Dns, HashKey, HealthChecks, Queue};
use crate::config::raw::endpoints as raw;
use crate::config::reader::Field;

impl Check<'_> {
    pub(super) fn dns(&mut self, raw: Option<Field<raw::Dns>>) -> Dns {
        let Some(raw) = flat(raw) else { return Dns { refresh: LONGEST_REFRESH, servers: Vec::new() } };
        if let Some(refresh) = &raw.refresh
            && refresh.value.is_some_and(|time| !(SHORTEST_REFRESH..=LONGEST_REFRESH).contains(&time.0))
        {
            let finding = Finding::error(refresh.span, "a time that is too short or too long for look-ups");
            self.error(finding.expecting("from `1s` to `5m`"));
        }
        let servers = raw.servers.map(|servers| self.names(servers, "name server")).unwrap_or_default();
        Dns {
            refresh: time(raw.refresh, LONGEST_REFRESH),
            servers: servers.into_iter().map(|server| server.value.0).collect(),
        }
    }

    pub(super) fn health(&mut self, raw: Field<raw::Health>) -> Option<HealthChecks> {
        let raw = raw.value?;
        let (every, patience) = (raw.every.as_ref().map(|every| every.span), raw.timeout.as_ref());
        let place = patience.map(|timeout| timeout.span).or(every);
        let (every, timeout) =
            (time(raw.every, Duration::from_secs(5)), time(raw.timeout, Duration::from_secs(1)));
        if let Some(place) = place.filter(|_| timeout > every) {
            let finding = Finding::error(place, "a check that may last longer than the time to the next one");
            self.error(finding.expecting("`timeout` not longer than `every`"));
        }
        let status = raw.status.map(|list| self.names(list, "status"));
        Some(HealthChecks {
            path: raw.path.value?.0,
            every,
            timeout,
            healthy: count(raw.healthy, const { NonZeroU32::new(2).unwrap() }),
            unhealthy: count(raw.unhealthy, const { NonZeroU32::new(3).unwrap() }),
            statuses: status.map_or_else(
                || vec![StatusCode::OK],
                |list| list.into_iter().map(|status| status.value.0).collect(),
            ),
        })
    }

    pub(super) fn breaker(&mut self, raw: Field<raw::Breaker>) -> Option<Breaker> {
        let (span, raw) = (raw.span, raw.value?);
        if raw.failures.is_none() && raw.requests.is_none() {
            let finding = Finding::error(span, "a breaker that nothing trips");
            self.error(finding.expecting("`failures`, `requests` or both"));
        }
        if let (None, Some(open)) = (&raw.failures, &raw.open) {
            let finding = Finding::error(open.span, "how long it is open, and nothing opens it");
            self.error(finding.expecting("`failures` beside `open`"));
        }
        if let (None, Some(queue)) = (&raw.requests, &raw.queue) {
            let finding = Finding::error(queue.span, "a queue in which nobody waits");
            self.error(finding.expecting("`requests` beside `queue`"));
        }
        let open = time(raw.open, Duration::from_secs(10));
        let queue = flat(raw.queue).map(|queue| Queue {
            most: count(queue.most, const { NonZeroU32::new(100).unwrap() }),
            wait: time(queue.wait, Duration::from_millis(500)),
        });
        Some(Breaker {
            circuit: flat(raw.failures).map(|failures| Circuit { failures: failures.0, open }),
            requests: flat(raw.requests).map(|requests| requests.0),
            queue,
        })
    }
}

pub(super) fn balance(raw: Option<Field<raw::Balance>>) -> Balance {
    match flat(raw).unwrap_or_default() {
        raw::Balance::RoundRobin => Balance::RoundRobin,
        raw::Balance::LeastLoaded => Balance::LeastLoaded,
        raw::Balance::ConsistentHash(key) => match key.value {
            Some(raw::HashKey::Address) => Balance::ConsistentHash(HashKey::Address),
            Some(raw::HashKey::Principal) => Balance::ConsistentHash(HashKey::Principal),
            Some(raw::HashKey::Field(Field { value: Some(name), .. })) => {
                Balance::ConsistentHash(HashKey::Field(name.0))
            }
            // What could not be read is a problem already.
            Some(raw::HashKey::Field(_)) | None => Balance::RoundRobin,
        },
    }
}

const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
const LONGEST_REFRESH: Duration = Duration::from_secs(300);
