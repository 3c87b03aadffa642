//! A service that keeps every byte, and reads as strictly as RFC 9112 can be read.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Keeps what every connection brings, and answers each whole request with 200.
pub(super) struct Recorder {
    url: String,
    connections: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone, Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    /// How many bytes have been answered: whole requests.
    answered: usize,
    closed: bool,
}

/// What came since a mark, by connection.
#[derive(Debug)]
pub(super) struct Arrived(Vec<Vec<u8>>);

impl Recorder {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let all = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let all = all.clone();
                std::thread::spawn(move || hear(&all, stream));
            }
        });
        Self { url, connections }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// How much has come so far, by connection.
    pub(super) fn mark(&self) -> Vec<usize> {
        self.connections.lock().unwrap().iter().map(|heard| heard.bytes.len()).collect()
    }

    /// What came since.
    pub(super) fn since(&self, mark: Vec<usize>) -> Arrived {
        let connections = self.connections.lock().unwrap();
        let from = mark.into_iter().chain(std::iter::repeat(0));
        let new = connections.iter().zip(from).map(|(heard, from)| heard.bytes[from..].to_vec());
        Arrived(new.filter(|bytes| !bytes.is_empty()).collect())
    }

    /// True when nothing is under way of so many connections that were made: every request was whole and is answered, or
    /// its connection is closed.
    pub(super) fn is_idle(&self, made: f64) -> bool {
        let connections = self.connections.lock().unwrap();
        connections.len() as f64 >= made
            && connections.iter().all(|heard| heard.closed || heard.answered == heard.bytes.len())
    }
}

fn hear(all: &Mutex<Vec<Heard>>, mut stream: TcpStream) {
    let own = {
        let mut all = all.lock().unwrap();
        all.push(Heard::default());
        all.len() - 1
    };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut answers = 0;
        {
            let heard = &mut all.lock().unwrap()[own];
            heard.bytes.extend_from_slice(&buffer[..count]);
            // What cannot be read strictly is never answered: the test sees it.
            while let Ok(Some(length)) = whole(&heard.bytes[heard.answered..]) {
                heard.answered += length;
                answers += 1;
            }
        }
        for _ in 0..answers {
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                break;
            }
        }
    }
    all.lock().unwrap()[own].closed = true;
}

impl Arrived {
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect()
    }

    /// How many whole requests arrived.
    ///
    /// # Errors
    /// What was sent in more than one form.
    pub(super) fn requests(&self) -> Result<usize, String> {
        let mut count = 0;
        for connection in &self.0 {
            let mut rest = &connection[..];
            while let Some(length) = whole(rest)? {
                count += 1;
                rest = &rest[length..];
            }
        }
        Ok(count)
    }
}

/// The length of the request at the beginning, if it is whole.
fn whole(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.contains(&0) { Err("a NUL".to_owned()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "bytes that are no text")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let parts: Vec<_> = line.split(' ').collect();
    if parts.len() != 3 || parts[2] != "HTTP/1.1" || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("the request line {line:?}"));
    }
    let (mut length, mut chunked, mut hosts) = (None, 0, 0);
    for line in lines {
        let (name, value) = field(line)?;
        match name.as_str() {
            "content-length" if length.is_some() => return Err("two lengths".to_owned()),
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                length = Some(
                    value.parse::<usize>().ok().filter(|_| digits).ok_or(format!("the length {value:?}"))?,
                );
            }
            "transfer-encoding" if value == "chunked" => chunked += 1,
            "transfer-encoding" => return Err(format!("the coding {value:?}")),
            "host" => hosts += 1,
            _ => {}
        }
    }
    let body = end + 4;
    match (length, chunked) {
        _ if hosts != 1 => Err(format!("{hosts} hosts")),
        (Some(_), _) if chunked > 0 => Err("both framings".to_owned()),
        (None, 0) => Ok(Some(body)),
        (Some(length), _) => Ok((bytes.len() >= body + length).then_some(body + length)),
        (None, 1) => Ok(chunks(&bytes[body..])?.map(|length| body + length)),
        (None, _) => Err("two codings".to_owned()),
    }
}

/// The length of a chunked body, if it is whole.
fn chunks(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        if line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("the chunk size {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("the chunk size {line:?}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(after) = bytes.get(at + size..at + size + 2) else { return Ok(None) };
        if after != b"\r\n" {
            return Err(format!("after a chunk {after:?}"));
        }
        at += size + 2;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        at += end + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        let (name, _) = field(&line)?;
        if ["content-length", "transfer-encoding", "host"].contains(&name.as_str()) {
            return Err(format!("the trailer {line:?}"));
        }
    }
}

fn field(line: &str) -> Result<(String, &str), String> {
    let (name, value) = line.split_once(':').ok_or(format!("the line {line:?}"))?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty()
        || !name.bytes().all(is_token)
        || value.bytes().any(|byte| byte < 0x20 && byte != b'\t')
    {
        return Err(format!("the field {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}
