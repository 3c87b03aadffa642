//! `portcullis dev` needs no file and no other server, and prints five commands that a person pastes: an allowed call,
//! one without a token, one that policy denies, one over the limit, one by mTLS.

use std::net::TcpListener;
use std::process::Command;

use testkit::{Service, Site, binary, eventually, run};

#[test]
fn the_five_commands_give_200_401_403_429_200() {
    let site = Site::new();
    let mut program = Command::new(binary());
    program
        .args(["dev", "--port", &free_ports(5).to_string()])
        .current_dir(site.path(""))
        .env("NO_COLOR", "1")
        .env("COLUMNS", "400")
        .env("TMPDIR", site.path(""));
    let mut dev = Service::spawn(&mut program, &site.path("output.log"));
    let commands = eventually("five commands are printed", || {
        if let Some(status) = dev.ended() {
            panic!("dev ended with {status}:\n{}", dev.output());
        }
        let output = dev.output();
        let lines = output
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("curl ") || line.starts_with("for "));
        let commands: Vec<_> = lines.map(str::to_owned).collect();
        (commands.len() >= 5).then_some(commands)
    });
    assert_eq!(commands.len(), 5, "{commands:#?}");
    for (command, status) in commands.iter().zip(["200", "401", "403", "429", "200"]) {
        let pasted = run(Command::new("bash").args(["-c", command]).current_dir(site.path("")));
        let said = format!("{}{}", pasted.stdout, pasted.stderr);
        assert!(said.contains(status), "{command}\ngave {said}\nand not {status}");
    }
    dev.signal("INT");
    assert_eq!(eventually("dev ends", || dev.ended()).code(), Some(0), "{}", dev.output());
}

/// The first of so many ports in a row that nobody listens on.
fn free_ports(count: u16) -> u16 {
    let listen = |port: u16| TcpListener::bind(("127.0.0.1", port));
    let mut candidates = (0..100)
        .map(|_| listen(0).unwrap().local_addr().unwrap().port())
        .filter(|port| *port < u16::MAX - count);
    candidates
        .find(|first| (*first..first + count).all(|port| listen(port).is_ok()))
        .expect("so many free ports in a row")
}
