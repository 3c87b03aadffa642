//! What becomes of a permitted request: exactly one of the things that a route can do.

use http::StatusCode;
use http::header::HeaderName;
use proxy::route::{Location, PathPattern, Rewrite, Sticky};

use super::super::{Check, flat, items};
use crate::config::finding::Finding;
use crate::config::model::{Action, At, Authenticate, Split, Target, When};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::route as raw;
use crate::config::reader::Field;
use crate::config::values::pattern::Name;

/// What a route says of its action.
pub(super) struct RawAction {
    pub(super) upstream: Option<Field<Name>>,
    pub(super) split: Option<Field<raw::Split>>,
    pub(super) respond: Option<Field<raw::Respond>>,
    pub(super) redirect: Option<Field<raw::Redirect>>,
    pub(super) rewrite: Option<Field<raw::Rewrite>>,
}

/// What the action must fit.
pub(super) struct Around<'a> {
    /// Where the route stands.
    pub(super) span: Span,
    /// The route names one, or a wildcard; also when it could not be read.
    pub(super) names_host: bool,
    pub(super) path: Option<&'a PathPattern>,
    pub(super) authenticate: Option<&'a Authenticate>,
}

impl Check<'_> {
    pub(super) fn action(&mut self, raw: RawAction, around: &Around<'_>) -> Option<Action> {
        let RawAction { upstream, split, respond, redirect, rewrite } = raw;
        let said = [
            upstream.as_ref().map(|field| ("upstream", field.span)),
            split.as_ref().map(|field| ("split", field.span)),
            respond.as_ref().map(|field| ("respond", field.span)),
            redirect.as_ref().map(|field| ("redirect", field.span)),
        ];
        let said: Vec<_> = said.into_iter().flatten().collect();
        match said.as_slice() {
            [_] => {}
            [] => {
                let finding = Finding::error(around.span, "the route leads nowhere");
                self.error(finding.expecting("`upstream`, `split`, `respond` or `redirect`"));
                return None;
            }
            [(first, at), .., (last, span)] => {
                let finding = Finding::error(*span, format!("`{first}` and `{last}` on one route"));
                self.error(finding.expecting("one of them").related(*at, format!("`{first}` stands at")));
                return None;
            }
        }
        if let (Some(rewrite), true) = (&rewrite, upstream.is_none() && split.is_none()) {
            let message = "a path is rewritten on the way to an upstream, and there is none";
            self.error(Finding::error(rewrite.span, message));
        }
        if let Some(respond) = respond {
            return self.respond(respond.value?);
        }
        if let Some(redirect) = redirect {
            return self.redirect(redirect.value?, around);
        }
        let rewrite = rewrite.and_then(|rewrite| self.rewrite(rewrite, around.path));
        let to = match (upstream, split) {
            (Some(upstream), _) => Target::One(self.upstream_name(upstream)?),
            (None, split) => Target::Split(self.split(split?.value?, around)?),
        };
        Some(Action::Forward { to, rewrite })
    }

    fn upstream_name(&mut self, name: Field<Name>) -> Option<Name> {
        self.upstreams.resolve(name.value?, name.span, self.findings)
    }

    fn respond(&mut self, raw: raw::Respond) -> Option<Action> {
        let (span, status) = (raw.status.span, raw.status.value?.0);
        let body = flat(raw.body).unwrap_or_default();
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        if bodiless.contains(&status) && !body.is_empty() {
            self.error(Finding::error(span, format!("a response {} has no body", status.as_u16())));
        }
        Some(Action::Respond { status, body })
    }

    /// A caller chooses the host of a request to a route that names none: he would choose where others are sent.
    fn redirect(&mut self, raw: raw::Redirect, around: &Around<'_>) -> Option<Action> {
        let (status, span) = (raw.status.value?.0, raw.to.span);
        let to: Location = raw.to.value?.0;
        if to.names_host() && !around.names_host {
            let finding =
                Finding::error(span, "`{host}` is whatever the caller says, on a route for any host");
            self.error(finding.expecting("a `host` on the route, or a fixed one here"));
        }
        Some(Action::Redirect { status, to })
    }

    fn split(&mut self, raw: raw::Split, around: &Around<'_>) -> Option<Split> {
        let sticky = match raw.sticky {
            Some(Field { value: Some(sticky), span }) => {
                if matches!((sticky, around.authenticate), (raw::Sticky::Principal, Some(Authenticate::None)))
                {
                    let finding =
                        Finding::error(span, "all callers are one principal: nobody proves who he is here");
                    self.error(finding.expecting("`address`, or `authenticate` with at least one proof"));
                }
                Some(match sticky {
                    raw::Sticky::Address => Sticky::Address,
                    raw::Sticky::Principal => Sticky::Principal,
                })
            }
            _ => None,
        };
        let span = raw.to.span;
        let mut weights = Vec::new();
        for Spanned { value: side, span } in self.names(raw.to, "upstream") {
            let (Some(name), Some(weight)) = (self.upstream_name(side.upstream), side.weight.value) else {
                continue;
            };
            if weights.iter().any(|(known, _)| *known == name) {
                self.error(Finding::error(span, format!("`{name}` a second time")));
            }
            weights.push((name, weight.0));
        }
        let when: Vec<When> =
            items(flat(raw.when)).into_iter().filter_map(|when| self.when(when.value)).collect();
        if weights.len() == 1 && when.is_empty() {
            let finding = Finding::error(span, "nothing is split between one upstream");
            self.error(finding.expecting("a second one, `when`, or `upstream` in place of `split`"));
        }
        (!weights.is_empty()).then_some(Split { weights, when, sticky })
    }

    fn when(&mut self, raw: raw::When) -> Option<When> {
        let upstream = self.upstream_name(raw.upstream);
        let (span, name): (Span, HeaderName) = (raw.field.span, raw.field.value?.0);
        if proxy::normalize::fields::Reserved::default().contains(name.as_str()) {
            let finding = Finding::error(span, format!("`{name}` is removed from what callers send"));
            self.error(finding.expecting("a field that a caller may send"));
        }
        Some(When { name, at: At(span), value: raw.value.value?.0, upstream: upstream? })
    }

    fn rewrite(&mut self, rewrite: Field<raw::Rewrite>, path: Option<&PathPattern>) -> Option<Rewrite> {
        let (from, to) = match rewrite.value? {
            raw::Rewrite::StripPrefix(prefix) => (prefix, String::new()),
            raw::Rewrite::ReplacePrefix(replace) => {
                let replace = replace.value?;
                (replace.from, replace.to.value?.0)
            }
        };
        let prefix = from.value?.0;
        let literal = match path? {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
        };
        let below =
            literal.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !below {
            let finding =
                Finding::error(from.span, format!("the route's path does not begin with `{prefix}`"));
            self.error(finding.expecting("a prefix of the route's path, on a segment boundary"));
        }
        Some(Rewrite { from: prefix, to })
    }
}
