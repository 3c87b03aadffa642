//! Limits, policies, logs, admin and shutdown.

use std::num::NonZeroU32;
use std::time::Duration;

use super::listener::{count, time};
use super::names::dangling;
use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{Admin, FileReference, Limit, LimitKey, LogFormat, LogLevel, LogTarget, Name};
use crate::config::raw::operation as raw;
use crate::config::reader::Field;
use crate::config::values::network::Bind;
use crate::config::values::quantity::Rate;

impl Check<'_> {
    pub(super) fn limit(&mut self, raw: raw::Limit) -> Option<Limit> {
        let key_span = raw.key.span;
        let key = raw.key.value.and_then(|key| self.limit_key(key));
        let at_edge = match (&key, raw.at) {
            (Some(LimitKey::Principal | LimitKey::Claim(_)), Some(at)) => {
                let finding =
                    Finding::error(at.span, "before authentication there is no principal and no claim");
                self.error(
                    finding.expecting("no `at`, or `key: address`").related(key_span, "the key stands at"),
                );
                false
            }
            (Some(LimitKey::Address), _) | (Some(LimitKey::Route) | None, Some(_)) => true,
            (_, None) => false,
        };
        let Rate(rate) = raw.rate.value?;
        let quota = match raw.burst {
            Some(Field { value: Some(burst), span }) => rate.with_burst(burst.0).unwrap_or_else(|error| {
                self.error(Finding::error(span, error.to_string()));
                rate
            }),
            _ => rate,
        };
        Some(Limit {
            key: key?,
            quota,
            at_edge,
            max_keys: count(raw.max_keys, const { NonZeroU32::new(131_072).unwrap() }),
        })
    }

    fn limit_key(&mut self, key: raw::LimitKey) -> Option<LimitKey> {
        match key {
            raw::LimitKey::Address => Some(LimitKey::Address),
            raw::LimitKey::Principal => Some(LimitKey::Principal),
            raw::LimitKey::Route => Some(LimitKey::Route),
            raw::LimitKey::Claim(Field { value, span }) => {
                let name = value?;
                if !self.claims.contains_key(&name) {
                    self.error(dangling(
                        name.as_str(),
                        span,
                        "mapped claim",
                        self.claims.keys().map(Name::as_str),
                    ));
                    return None;
                }
                Some(LimitKey::Claim(name))
            }
        }
    }

    pub(super) fn policies(
        &mut self,
        raw: Option<Field<raw::Policies>>,
        needed: bool,
    ) -> Option<FileReference> {
        if raw.is_none() && needed {
            let finding = Finding::warning(
                crate::config::problem::Span::default(),
                "there are no policies: every request is denied",
            );
            self.error(finding.expecting("`policies: { directory: policies }` and a `*.cedar` file in it"));
        }
        let directory = flat(raw)?.directory;
        let path = directory.value?;
        Some(self.file(&path.0, directory.span))
    }

    pub(super) fn telemetry(
        &mut self,
        raw: Option<Field<raw::Telemetry>>,
    ) -> (LogTarget, LogLevel, LogFormat) {
        let (access_log, log) = flat(raw).map_or((None, None), |raw| (flat(raw.access_log), flat(raw.log)));
        let to = match access_log.and_then(|log| flat(log.to)) {
            None | Some(raw::LogTarget::Stdout) => LogTarget::Stdout,
            Some(raw::LogTarget::Stderr) => LogTarget::Stderr,
            Some(raw::LogTarget::Off) => LogTarget::Off,
            Some(raw::LogTarget::File(Field { value, span })) => match value {
                Some(path) => LogTarget::File(self.file(&path.0, span)),
                None => LogTarget::Off,
            },
        };
        let (level, format) = log.map_or((None, None), |log| (flat(log.level), flat(log.format)));
        (to, level.unwrap_or(LogLevel::Info), format.unwrap_or(LogFormat::Json))
    }

    pub(super) fn admin(&mut self, raw: Option<Field<raw::Admin>>) -> Admin {
        let Some(raw) = flat(raw) else { return Admin::default() };
        if let Some(Field { value: Some(Bind(bind)), span }) = raw.bind
            && !bind.ip().is_loopback()
        {
            let finding = Finding::error(span, format!("`{bind}` lets others read the metrics"));
            self.error(finding.expecting("a loopback address such as `127.0.0.1:9901`"));
        }
        Admin {
            bind: flat(raw.bind).map(|bind| bind.0),
            probes: flat(raw.probes).map(|bind| bind.0),
            socket: flat(raw.socket).map(|path| self.path(&path.0)),
        }
    }

    pub(super) fn shutdown(&mut self, raw: Option<Field<raw::Shutdown>>) -> Duration {
        time(flat(raw).map(|shutdown| shutdown.deadline), Duration::from_secs(30))
    }
}
