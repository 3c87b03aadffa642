//! What pages of other origins may do on a route.

use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use proxy::cors::CorsRules;

use super::super::{Check, flat, items};
use super::fields::Fields;
use crate::config::finding::Finding;
use crate::config::problem::Spanned;
use crate::config::raw::route as raw;
use crate::config::reader::Field;
use crate::config::values::field::RouteMethod;
use crate::config::values::rule::{CorsOrigin, FieldName};

impl Check<'_> {
    pub(super) fn cors(
        &mut self,
        Spanned { value: raw, span }: Spanned<raw::Cors>,
        methods: &[Method],
        fields: &Fields,
    ) -> Option<CorsRules> {
        let origins = self.origins(raw.origins);
        let credentials = match raw.credentials {
            Some(Field { value: Some(true), span }) => {
                if origins.is_none() {
                    let finding = Finding::error(span, "any page could read what any caller's cookies open");
                    self.error(finding.expecting("`origins` by name, or no `credentials`"));
                }
                true
            }
            _ => false,
        };
        let methods = self.methods(raw.methods).unwrap_or_else(|| methods.to_vec());
        let max_age = match raw.max_age {
            Some(Field { value: Some(time), span }) => {
                if time.0 > LONGEST {
                    let finding = Finding::error(span, "longer than any browser remembers a preflight");
                    self.error(finding.expecting("a time up to `24h`"));
                }
                time.0
            }
            _ => Duration::from_secs(600),
        };
        let own = fields.answer.set.iter().map(|(name, _)| name).chain(&fields.answer.remove);
        for name in own.filter(|name| name.as_str().starts_with("access-control-")) {
            let message = format!("`{name}` is what `cors` is about; `headers.response` names it, too");
            self.error(Finding::error(span, message).expecting("one of both"));
        }
        Some(CorsRules {
            origins,
            methods,
            fields: field_names(raw.fields),
            expose: field_names(raw.expose),
            credentials,
            max_age,
        })
    }

    pub(super) fn methods(&mut self, raw: Option<Field<Vec<Field<RouteMethod>>>>) -> Option<Vec<Method>> {
        let named = self.names(raw?, "method");
        Some(named.into_iter().map(|method| method.value.0).collect())
    }

    /// `None` is any.
    fn origins(&mut self, raw: Field<Vec<Field<CorsOrigin>>>) -> Option<Vec<HeaderValue>> {
        let named = self.names(raw, "origin");
        let any = named.iter().find(|origin| origin.value.0.is_none()).map(|origin| origin.span);
        if let (Some(span), 2..) = (any, named.len()) {
            self.error(
                Finding::error(span, "`*` beside other origins").expecting("`*` alone, or origins by name"),
            );
        }
        let mut origins: Vec<HeaderValue> = Vec::new();
        for Spanned { value: CorsOrigin(origin), span } in named {
            let Some(origin) = origin else { continue };
            if origins.contains(&origin) {
                self.error(Finding::error(span, "the same origin a second time"));
            }
            origins.push(origin);
        }
        any.is_none().then_some(origins)
    }
}

fn field_names(raw: Option<Field<Vec<Field<FieldName>>>>) -> Vec<HeaderName> {
    items(flat(raw)).into_iter().map(|name| name.value.0).collect()
}

/// Browsers cap it anyway, at two hours (Chromium) or a day (Firefox).
const LONGEST: Duration = Duration::from_secs(86_400);
