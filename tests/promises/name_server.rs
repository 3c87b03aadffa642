//! A name server of the test's own, whose answers the test changes (RFC 1035 section 4; UDP only).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) struct NameServer {
    address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Says>>>,
}

/// What it says of a name; of one that it does not know, that there is none.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, for a second.
    Addresses(Vec<IpAddr>),
    /// That it cannot tell.
    Failure,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let names = Arc::new(Mutex::new(BTreeMap::new()));
        let state = names.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..length], &state.lock().unwrap());
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self { address, names }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn says(&self, name: &str, says: Says) {
        self.names.lock().unwrap().insert(name.to_owned(), says);
    }

    pub(crate) fn resolves(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.says(name, Says::Addresses(addresses));
    }
}

fn answer(query: &[u8], names: &BTreeMap<String, Says>) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap().to_ascii_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let (code, addresses) = match names.get(&labels.join(".")) {
        Some(Says::Addresses(addresses)) => (0, addresses.as_slice()),
        Some(Says::Failure) => (2, [].as_slice()),
        None => (3, [].as_slice()),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), 1) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), 28) => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    // An answer that may be believed, with one question and these records.
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(question);
    for record in records {
        // The name of the question, its kind, class IN, one second.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1, 0, u8::try_from(record.len()).unwrap()]);
        answer.extend(record);
    }
    answer
}
