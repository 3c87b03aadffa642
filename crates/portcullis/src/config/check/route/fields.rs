//! Header fields of a route: what is set and removed on the way there and back.

use http::header::{HeaderName, HeaderValue};
use proxy::route::{AnswerFields, Part, Template};

use super::super::token::RoutePlaces;
use super::super::{Check, flat, items};
use crate::config::finding::Finding;
use crate::config::model::{Name, Route};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::route as raw;
use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FieldTemplate, SetField};
use crate::config::values::rule::{AnswerField, AnswerValue, RemovedAnswerField, RemovedField};

/// What a route does with header fields.
pub(super) struct Fields {
    pub(super) set: Vec<(HeaderName, Template)>,
    pub(super) remove: Vec<HeaderName>,
    pub(super) answer: AnswerFields,
    pub(super) security: bool,
}

impl Check<'_> {
    pub(super) fn fields(&mut self, raw: Option<raw::Headers>, places: &mut RoutePlaces) -> Fields {
        let Some(raw) = raw else {
            return Fields {
                set: Vec::new(),
                remove: Vec::new(),
                answer: AnswerFields::default(),
                security: true,
            };
        };
        let security = !matches!(flat(raw.security), Some(raw::SecurityFields::Off));
        let set = self.set_fields(raw.set, places);
        let removed = items(flat(raw.remove)).into_iter();
        let remove = self
            .each_once(removed.map(|Spanned { value: RemovedField(name), span }| (name, span)), &places.set);
        Fields {
            set,
            remove,
            answer: flat(raw.response).map(|raw| self.answer_fields(raw)).unwrap_or_default(),
            security,
        }
    }

    fn answer_fields(&mut self, raw: raw::ResponseHeaders) -> AnswerFields {
        let mut set: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let mut places = Vec::new();
        for (name, value) in flat(raw.set).map(|set| set.0).unwrap_or_default() {
            let (Some(AnswerField(field)), Some(AnswerValue(value))) = (name.value, value.value) else {
                continue;
            };
            self.second(&field, name.span, &places);
            places.push((field.clone(), name.span));
            set.push((field, value));
        }
        let removed = items(flat(raw.remove)).into_iter();
        let removed = removed.map(|Spanned { value: RemovedAnswerField(name), span }| (name, span));
        AnswerFields { remove: self.each_once(removed, &places), set }
    }

    /// The names of a list, none of them twice or among those that are set.
    fn each_once(
        &mut self,
        named: impl Iterator<Item = (HeaderName, Span)>,
        set: &[(HeaderName, Span)],
    ) -> Vec<HeaderName> {
        let mut known: Vec<(HeaderName, Span)> = Vec::new();
        for (name, span) in named {
            if let Some((_, first)) = set.iter().find(|(set, _)| *set == name) {
                let finding = Finding::error(span, format!("`{name}` is removed and set"));
                let finding = finding.expecting("one of both: what is set takes the place of what came");
                self.error(finding.related(*first, "it is set at"));
            }
            self.second(&name, span, &known);
            known.push((name, span));
        }
        known.into_iter().map(|(name, _)| name).collect()
    }

    fn second(&mut self, name: &HeaderName, span: Span, known: &[(HeaderName, Span)]) {
        if known.iter().any(|(known, _)| known == name) {
            self.error(Finding::error(span, format!("`{name}` a second time, in another spelling")));
        }
    }

    fn set_fields(
        &mut self,
        set: Option<Field<Entries<SetField, FieldTemplate>>>,
        places: &mut RoutePlaces,
    ) -> Vec<(HeaderName, Template)> {
        let mut fields: Vec<(HeaderName, Template)> = Vec::new();
        for (name, template) in flat(set).map(|set| set.0).unwrap_or_default() {
            let (Some(SetField(field)), Some(FieldTemplate(value))) = (name.value, template.value) else {
                continue;
            };
            if let Template::Parts(parts) = &value {
                for part in parts {
                    if let Part::Claim(claim) = part
                        && !self.claims.contains_key(claim.as_str())
                    {
                        let finding =
                            Finding::error(template.span, format!("no issuer maps the claim `{claim}`"));
                        let suggestion =
                            crate::config::problem::closest(claim, self.claims.keys().map(Name::as_str));
                        self.error(
                            finding
                                .expecting("a name under `claims` of a token issuer")
                                .suggesting(suggestion),
                        );
                    }
                }
            }
            self.second(&field, name.span, &places.set);
            places.set.push((field.clone(), name.span));
            fields.push((field, value));
        }
        fields
    }

    /// A field that some route sets is removed from what callers send to any: no rule of a split ever sees it.
    pub(super) fn fields_of_splits(&mut self, routes: &[Route]) {
        for when in routes.iter().flat_map(|route| route.action.when()) {
            let mut set =
                routes.iter().filter(|route| route.set_fields.iter().any(|(name, _)| *name == when.name));
            if let Some(route) = set.next() {
                let message = format!(
                    "`{}` is set by route `{}`, so it is removed from what callers send",
                    when.name, route.name
                );
                self.error(Finding::error(when.at.0, message).expecting("another field"));
            }
        }
    }
}
