//! Answers that begin before their requests have ended.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::{PATIENCE, Rig, Scene};

/// What neither socket's buffers hold.
const LARGE: usize = 16 * 1024 * 1024;

/// An upstream that answers with so many bytes as soon as it has the head, reads on, and tells how much came in all.
fn eager(answer: usize) -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let mut writing = stream.try_clone().unwrap();
                let mut buffer = vec![0; 64 * 1024];
                let first = stream.read(&mut buffer).unwrap();
                let head = buffer[..first].windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                let writer = thread::spawn(move || {
                    write!(writing, "HTTP/1.1 200 OK\r\nContent-Length: {answer}\r\n\r\n").unwrap();
                    writing.write_all(&vec![b'a'; answer]).ok();
                });
                let mut came = first - head;
                while came < LARGE
                    && let Ok(count @ 1..) = stream.read(&mut buffer)
                {
                    came += count;
                }
                tell.send(came).unwrap();
                writer.join().unwrap();
            });
        }
    });
    (address, told)
}

fn upload(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {LARGE}\r\n\r\n").unwrap();
    stream
}

#[test]
fn who_reads_an_answer_only_when_all_is_sent_gets_it() {
    let (upstream, came) = eager(LARGE);
    let rig = Rig::start(&Scene { upstream: Some(upstream), ..Scene::default() });
    let mut stream = upload(&rig);
    stream.write_all(&vec![b'u'; LARGE]).unwrap();
    assert_eq!(came.recv_timeout(PATIENCE).unwrap(), LARGE);
    let mut answer = vec![0; LARGE];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn who_answers_early_still_gets_the_rest() {
    let (upstream, came) = eager(2);
    let rig = Rig::start(&Scene { upstream: Some(upstream), ..Scene::default() });
    let mut stream = upload(&rig);
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream.write_all(&vec![b'u'; LARGE]).unwrap();
    assert_eq!(came.recv_timeout(PATIENCE).unwrap(), LARGE);
}
