//! YAML as a tree in which every key and value knows its place.
//!
//! Scalars stay text: what they mean is decided by whoever reads them, so `off`, `no` and `1.20` mean what they say.
//! Refused, each with its place: duplicate keys, anchors and aliases, tags, keys that are not plain words, more than one
//! document, nesting deeper than [`NESTING`].

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::finding::{Finding, quoted};
use super::problem::Span;

/// A value and its place. The place of a list or mapping is its first byte, so that a message points at its beginning.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
    /// One past the last byte, also of lists and mappings.
    end: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing stands there, or `null` or `~`.
    Nothing,
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// What stands there has been reported already.
    Reported,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Span,
}

impl Node {
    /// The value of a key of a mapping.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    /// From its first byte to its last, also of lists and mappings.
    pub(super) fn extent(&self) -> Span {
        Span { start: self.span.start, end: self.end.max(self.span.end) }
    }

    /// The field at a byte, such as `listeners.edge.bind` or `routes[2].path`.
    pub(super) fn field_at(&self, byte: usize) -> String {
        let mut path = String::new();
        let mut node = self;
        loop {
            let (name, inner) = match &node.value {
                Value::Mapping(entries) => {
                    let at = |(key, value): &&(Key, Self)| {
                        (key.span.start..=value.end.max(key.span.end)).contains(&byte)
                    };
                    let Some((key, value)) = entries.iter().find(at) else { return path };
                    let dot = if path.is_empty() { "" } else { "." };
                    (format!("{dot}{}", key.text), value)
                }
                Value::Sequence(items) => {
                    let Some((index, item)) = items
                        .iter()
                        .enumerate()
                        .find(|(_, item)| (item.span.start..item.end).contains(&byte))
                    else {
                        return path;
                    };
                    (format!("[{index}]"), item)
                }
                Value::Nothing | Value::Scalar(_) | Value::Reported => return path,
            };
            path.push_str(&name);
            node = inner;
        }
    }
}

/// The tree of the one document in `text`.
///
/// # Errors
///
/// Text that is not YAML, or holds no document: then there is no tree at all. Everything else that is refused becomes a
/// finding, and the rest of the tree can still be read.
pub(super) fn parse(text: &str, findings: &mut Vec<Finding>) -> Result<Node, Box<Finding>> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: NESTING,
        block_nesting_limit: NESTING,
    };
    let mut builder = Builder { parser: Parser::new_from_str_with_options(text, options), findings };
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => {
                return Err(Box::new(
                    Finding::error(span, "the file is empty")
                        .expecting("a mapping that begins with `version: 1`"),
                ));
            }
            event => {
                let root = builder.node(event, span)?;
                builder.rest()?;
                return Ok(root);
            }
        }
    }
}

struct Builder<'text, 'findings> {
    parser: Parser<'text, StrInput<'text>>,
    findings: &'findings mut Vec<Finding>,
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Span), Box<Finding>> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, bytes(span))),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Nothing but the end may follow the first document.
    fn rest(&mut self) -> Result<(), Box<Finding>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(()),
                _ => {
                    return Err(Box::new(
                        Finding::error(span, "a second document begins here")
                            .expecting("one document in a file"),
                    ));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span) -> Result<Node, Box<Finding>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(span, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let nothing = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if nothing { Value::Nothing } else { Value::Scalar(text.into_owned()) };
                Ok(Node { value, span, end: span.end })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_extras(span, anchor, tag.is_some());
                let mut items = Vec::new();
                loop {
                    let (event, at) = self.next()?;
                    if event == Event::SequenceEnd {
                        return Ok(collection(Value::Sequence(items), span, at));
                    }
                    items.push(self.node(event, at)?);
                }
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_extras(span, anchor, tag.is_some());
                self.mapping(span)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.findings.push(Finding::error(span, "an alias").expecting("the value itself"));
                Ok(Node { value: Value::Reported, span, end: span.end })
            }
            _ => Err(Box::new(Finding::error(span, "the document ends too early"))),
        }
    }

    fn mapping(&mut self, span: Span) -> Result<Node, Box<Finding>> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(collection(Value::Mapping(entries), span, at));
            }
            let key = self.node(event, at)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at)?;
            let Value::Scalar(text) = key.value else {
                let finding = Finding::error(key.span, "a key that is not a word").expecting("a word");
                self.findings.push(finding.concealing(value.extent()));
                continue;
            };
            if let Some(first) = seen.get(&text) {
                let finding =
                    Finding::error(key.span, format!("{} stands here a second time", quoted(&text)));
                let finding = finding.expecting("every key once").related(*first, "the first is at");
                self.findings.push(finding.concealing(value.extent()));
                continue;
            }
            seen.insert(text.clone(), key.span);
            entries.push((Key { text, span: key.span }, value));
        }
    }

    fn refuse_extras(&mut self, span: Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.findings.push(
                Finding::error(span, "an anchor").expecting("the value alone, written where it is used"),
            );
        }
        if tagged {
            self.findings.push(Finding::error(span, "a YAML tag").expecting("the value alone"));
        }
    }
}

fn collection(value: Value, start: Span, end: Span) -> Node {
    let span = Span { start: start.start, end: (start.start + 1).min(end.end.max(start.start)) };
    Node { value, span, end: end.end.max(start.end) }
}

fn bytes(span: granit_parser::Span) -> Span {
    let start = span.start.byte_offset().unwrap_or_default();
    Span { start, end: span.end.byte_offset().unwrap_or(start).max(start) }
}

fn syntax(error: &ScanError) -> Box<Finding> {
    let start = error.marker().byte_offset().unwrap_or_default();
    Box::new(Finding::error(Span { start, end: start }, format!("not valid YAML: {}", error.info())))
}

/// How deep lists and mappings may lie in one another, in flow and in block style; the configuration needs 7.
const NESTING: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let outcome = parse(text, &mut findings);
        findings.extend(outcome.err().map(|finding| *finding));
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn words_that_yaml_1_1_turned_into_booleans_stay_words() {
        let node = parse("a: off\nb: no\nc: 1.20", &mut Vec::new()).unwrap();
        let Value::Mapping(entries) = node.value else { panic!("{node:?}") };
        let texts: Vec<_> = entries.iter().map(|(_, value)| format!("{:?}", value.value)).collect();
        assert_eq!(texts, ["Scalar(\"off\")", "Scalar(\"no\")", "Scalar(\"1.20\")"]);
    }

    #[test]
    fn a_byte_leads_to_its_field() {
        let text = "listeners:\n  edge:\n    bind: here\nroutes:\n  - { name: a, path: there }\n";
        let node = parse(text, &mut Vec::new()).unwrap();
        assert_eq!(node.field_at(text.find("here").unwrap()), "listeners.edge.bind");
        assert_eq!(node.field_at(text.find("there").unwrap()), "routes[0].path");
    }

    #[test]
    fn what_is_not_a_plain_tree_is_refused() {
        assert_eq!(findings("a: 1\na: 2"), ["`a` stands here a second time"]);
        assert_eq!(findings("a: &x 1\nb: *x"), ["an anchor", "an alias"]);
        assert_eq!(findings("a: !!str 1"), ["a YAML tag"]);
        assert_eq!(findings("? [a]\n: 1"), ["a key that is not a word"]);
        assert_eq!(findings("a: 1\n---\nb: 2"), ["a second document begins here"]);
        assert_eq!(findings(""), ["the file is empty"]);
        assert_eq!(findings("# only a comment\n"), ["the file is empty"]);
        assert_eq!(findings("a: [").len(), 1);
        assert_eq!(findings(&"[".repeat(10_000)).len(), 1);
    }
}
