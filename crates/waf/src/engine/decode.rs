//! Transformations that the engine does otherwise than ModSecurity.

use std::borrow::Cow;
use std::sync::Arc;

use zentinel_modsec::transformations::{Transformation, TransformationPipeline, create_transformation};

/// A pipeline of transformations by their names.
///
/// # Errors
/// One of them is unknown; in words.
pub(super) fn pipeline(names: &[String]) -> Result<TransformationPipeline, String> {
    let mut pipeline = TransformationPipeline::new();
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "urldecodeuni" => pipeline.add(Arc::new(UrlDecodeUni)),
            // The engine turns every slash into a backslash, and none of the rule set's paths is found then.
            "normalizepathwin" | "normalisepathwin" => pipeline.add(one("normalizePath")?),
            _ => pipeline.add(one(name)?),
        }
    }
    Ok(pipeline)
}

fn one(name: &str) -> Result<Arc<dyn Transformation>, String> {
    create_transformation(name).map_err(|error| error.to_string())
}

/// `+`, `%xx` and `%uxxxx`; what is none of them stays.
struct UrlDecodeUni;

impl Transformation for UrlDecodeUni {
    fn transform<'a>(&self, input: &'a str) -> Cow<'a, str> {
        if !input.contains(['%', '+']) {
            return Cow::Borrowed(input);
        }
        let mut decoded = String::with_capacity(input.len());
        let mut rest = input;
        while let Some(place) = rest.find(['%', '+']) {
            let (before, after) = rest.split_at(place);
            decoded.push_str(before);
            let coded = |from: usize, to: usize| {
                let digits = after.get(from..to)?;
                let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                all_hex.then(|| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)).flatten()
            };
            let (character, length) = match after.as_bytes().get(..2) {
                _ if after.starts_with('+') => (' ', 1),
                Some(b"%u" | b"%U") if coded(2, 6).is_some() => (coded(2, 6).unwrap_or('%'), 6),
                _ => coded(1, 3).map_or(('%', 1), |character| (character, 3)),
            };
            decoded.push(narrow(character));
            rest = after.get(length..).unwrap_or_default();
        }
        decoded.push_str(rest);
        Cow::Owned(decoded)
    }

    fn name(&self) -> &'static str {
        "urlDecodeUni"
    }
}

/// Full-width forms of ASCII are the same characters to some readers (U+FF01 to U+FF5E).
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_decoded_and_what_is_no_code_stays() {
        let decoded = |text: &str| UrlDecodeUni.transform(text).into_owned();
        assert_eq!(decoded("a+b%20c%u0041%uff1c%zz%4"), "a b cA<%zz%4");
        assert_eq!(decoded("%é%"), "%é%");
        assert_eq!(decoded("plain"), "plain");
    }

    #[test]
    fn paths_are_made_plain_with_slashes() {
        let names = ["normalisePathWin".to_owned()];
        assert_eq!(pipeline(&names).unwrap().apply(r"\a\.\b/../.ssh/id_rsa"), "/a/.ssh/id_rsa");
        assert!(pipeline(&["turnAround".to_owned()]).is_err());
    }
}
