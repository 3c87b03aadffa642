//! Envoy's side of `ext_authz`: questions and answers as bytes, made here a second time from Envoy's own definitions.

use std::net::SocketAddr;

use testkit::{Ask, Connection, Protocol, Reply};

use super::{CLIENT, Described};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Envoy's `CheckRequest` for a request, field by field as its proto numbers them.
pub(super) fn message_of((method, path, host, fields): &Described<'_>) -> Vec<u8> {
    let text = |number: u8, value: &str| delimited(number, value.as_bytes());
    let pairs = fields.iter().map(|(name, value)| delimited(3, &[text(1, name), text(2, value)].concat()));
    let pairs = pairs.collect::<Vec<_>>().concat();
    let http = [text(2, method), pairs, text(4, path), text(5, host), text(6, "http")].concat();
    let source = delimited(1, &delimited(1, &text(2, CLIENT)));
    delimited(1, &[delimited(1, &source), delimited(4, &delimited(2, &http))].concat())
}

fn delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        field.push((length % 128) as u8 | 128);
        length /= 128;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

pub(super) fn grpc(listener: SocketAddr, message: &[u8]) -> Reply {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    grpc_bytes(listener, &[&[0], length.as_slice(), message].concat())
}

pub(super) fn grpc_bytes(listener: SocketAddr, bytes: &[u8]) -> Reply {
    let ask = Ask::new("POST", "portcullis", CHECK)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    Connection::plain(listener, Protocol::H2).unwrap().send(ask.body(bytes.to_vec())).unwrap()
}

/// What Envoy reads in an answer.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) code: u64,
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) removed: Vec<String>,
    pub(super) body: String,
}

pub(super) fn check(listener: SocketAddr, message: &[u8]) -> Checked {
    let reply = grpc(listener, message);
    let grpc_status = reply.trailers.get("grpc-status").map(|status| status.to_str().unwrap());
    assert_eq!((reply.status, grpc_status), (200, Some("0")), "{reply:?}");
    assert_eq!(reply.header("content-type"), ["application/grpc"]);
    let (prefix, message) = reply.body.split_at(5);
    assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, message.len());
    let checked = read(message);
    assert_eq!(checked.code == 0, checked.status == 200, "{checked:?}");
    checked
}

/// `CheckResponse`: 1 status { 1 code }, 2 denied { 1 status { 1 code }, 2 headers, 3 body }, 3 ok { 2 headers, 5 removed }.
pub(super) fn read(message: &[u8]) -> Checked {
    let mut checked = Checked::default();
    for (number, value) in fields(message) {
        let Part::Bytes(inner) = value else { continue };
        match number {
            1 => checked.code = number_of(&inner),
            2 | 3 => {
                checked.status = 200;
                for (part, value) in fields(&inner) {
                    let Part::Bytes(bytes) = value else { continue };
                    match (number, part) {
                        (2, 1) => checked.status = u16::try_from(number_of(&bytes)).unwrap(),
                        (2, 3) => checked.body = String::from_utf8(bytes).unwrap(),
                        (_, 2) => checked.fields.push(field_of(&bytes)),
                        (3, 5) => checked.removed.push(String::from_utf8(bytes).unwrap()),
                        _ => panic!("an unknown part {part}"),
                    }
                }
            }
            _ => panic!("an unknown field {number}"),
        }
    }
    checked
}

enum Part {
    Number(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Part)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Part::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(value.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in 0.. {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 127) << (7 * shift);
        if byte & 128 == 0 {
            break;
        }
    }
    value
}

fn number_of(message: &[u8]) -> u64 {
    fields(message)
        .into_iter()
        .find_map(|(_, value)| if let Part::Number(number) = value { Some(number) } else { None })
        .unwrap_or(0)
}

fn field_of(option: &[u8]) -> (String, String) {
    let header = fields(option).into_iter().find_map(|(number, value)| match value {
        Part::Bytes(header) if number == 1 => Some(header),
        _ => None,
    });
    let mut texts = fields(&header.unwrap()).into_iter().filter_map(|(_, value)| match value {
        Part::Bytes(text) => Some(String::from_utf8(text).unwrap()),
        Part::Number(_) => None,
    });
    (texts.next().unwrap(), texts.next().unwrap_or_default())
}
