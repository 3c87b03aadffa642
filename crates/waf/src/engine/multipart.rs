//! `multipart/form-data` (RFC 7578), read strictly: what another reader could take for something else is an error.

/// A part of a form.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) name: String,
    /// What the client calls the file, if it is one.
    pub(super) file: Option<String>,
    /// Its header fields, a line each.
    pub(super) fields: Vec<String>,
    /// Empty for files: they are not looked into.
    pub(super) text: String,
}

/// The parts of a body whose `Content-Type` is `kind`; `None` if it can't be read, or be read in two ways.
pub(super) fn parts(kind: &str, body: &[u8]) -> Option<Vec<Part>> {
    let mut boundaries =
        parameters(kind)?.into_iter().filter(|(name, _)| name == "boundary").map(|(_, value)| value);
    let boundary = boundaries.next().filter(|boundary| (1..=70).contains(&boundary.len()))?;
    if boundaries.next().is_some() {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let delimiter = format!("\r\n--{boundary}");
    // The first one has no line before it; text in front of it is for readers that we do not know.
    let mut rest = text.strip_prefix(delimiter.get(2..)?)?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix("--") {
            return end.trim().is_empty().then_some(parts);
        }
        let (part, after) = rest.strip_prefix("\r\n")?.split_once(delimiter.as_str())?;
        parts.push(read(part)?);
        rest = after;
    }
}

fn read(part: &str) -> Option<Part> {
    let (head, content) = part.split_once("\r\n\r\n")?;
    let fields: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    let mut dispositions = fields.iter().filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let disposition = dispositions.next()?;
    if dispositions.next().is_some() || fields.iter().any(|field| !field.contains(':')) {
        return None;
    }
    let (mut name, mut file) = (None, None);
    for (key, value) in parameters(disposition)? {
        let place = match key.as_str() {
            "name" => &mut name,
            "filename" | "filename*" => &mut file,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let text = if file.is_some() { String::new() } else { content.to_owned() };
    Some(Part { name: name?, file, fields, text })
}

/// The parameters after a value, their names in lower case; quotes are taken off, and `;` inside of them is text.
fn parameters(value: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let (_, mut rest) = value.split_once(';').unwrap_or((value, ""));
    while !rest.trim().is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (text, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let (text, next) = unquoted(quoted)?;
                (text, next.trim_start())
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after.get(..end)?.trim().to_owned(), after.get(end..)?)
            }
        };
        parameters.push((name.trim().to_ascii_lowercase(), text));
        rest = if next.is_empty() { "" } else { next.strip_prefix(';')? };
    }
    Some(parameters)
}

/// Text up to the closing quote, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut taken = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((taken, text.get(place + 1..)?)),
            '\\' => taken.push(characters.next()?.1),
            other => taken.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=\"x y\"";

    fn one(disposition: &str) -> Option<Vec<Part>> {
        let body =
            format!("--x y\r\nContent-Disposition: form-data; {disposition}\r\n\r\nvalue\r\n--x y--\r\n");
        parts(KIND, body.as_bytes())
    }

    #[test]
    fn a_form_is_read_part_by_part() {
        let field = &one("name=\"a;b\"").unwrap()[0];
        assert_eq!((field.name.as_str(), field.file.as_deref(), field.text.as_str()), ("a;b", None, "value"));
        let file = &one("name=a; filename=\"x\\\";y.php\"").unwrap()[0];
        assert_eq!((file.file.as_deref(), file.text.as_str()), (Some("x\";y.php"), ""));
        assert_eq!(parts(KIND, b"--x y--\r\n"), Some(Vec::new()));
    }

    #[test]
    fn what_has_two_readings_is_none() {
        for disposition in
            ["filename=a", "name=a; name=b", "name=\"a", "name=a; filename=b; filename*=c", "name=\"a\"b"]
        {
            assert_eq!(one(disposition), None, "{disposition}");
        }
        let whole = "--x y\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n--x y--";
        assert!(parts(KIND, whole.as_bytes()).is_some());
        for body in [
            "",
            "--x y",
            &format!("before\r\n{whole}"),
            &format!("{whole} after"),
            &whole.replace("\r\n", "\n"),
        ] {
            assert_eq!(parts(KIND, body.as_bytes()), None, "{body}");
        }
        for kind in ["multipart/form-data", "multipart/form-data; boundary=x; boundary=\"x y\""] {
            assert_eq!(parts(kind, whole.as_bytes()), None, "{kind}");
        }
    }
}
