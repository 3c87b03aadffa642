//! The gateway itself: the real program, with a configuration in a directory of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::Issued;
use crate::client::{Ask, Connection, Protocol, Reply};
use crate::process::{Finished, Service, run};
use crate::{eventually, wire};

/// A directory with a configuration and what it names.
pub struct Site {
    directory: TempDir,
}

/// A gateway that said it is ready; killed when dropped.
pub struct Gateway {
    service: Service,
    directory: PathBuf,
    ready: Value,
    listeners: BTreeMap<String, SocketAddr>,
}

/// What a gateway's process holds at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Memory in use, in KiB.
    pub resident_kib: usize,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Series in the metrics.
    pub series: usize,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Where a file of this name lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in place and says where it lies.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        write(self.directory.path(), name, contents)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn certificate(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &issued.chain);
        self.write(&format!("{name}.key"), &issued.key);
    }

    /// Writes `policies/NAME.cedar`.
    pub fn policy(&self, name: &str, text: &str) {
        self.write(&format!("policies/{name}.cedar"), text);
    }

    /// Starts the gateway on this configuration (as JSON, which is YAML too) and waits until it is ready.
    /// What the test does not say is filled in: two cores, admin and probes on free ports, an access log, policies
    /// from `policies/`.
    #[must_use]
    pub fn start(&self, config: &Value) -> Gateway {
        self.start_with(config, &[])
    }

    /// The same with variables in the gateway's environment.
    #[must_use]
    pub fn start_with(&self, config: &Value, environment: &[(&str, &str)]) -> Gateway {
        self.launch(&mut self.command(config, environment))
    }

    /// The same, waiting only until the gateway lives: what it needs may be away, see [`Gateway::probe`].
    #[must_use]
    pub fn boot(&self, config: &Value, environment: &[(&str, &str)]) -> Gateway {
        let gateway = self.spawn(&mut self.command(config, environment));
        eventually("the gateway lives", || (gateway.probe("/livez") == 200).then_some(()));
        gateway
    }

    /// Starts the gateway by a command of the test's own, which must pass `--ready-file` [`Site::ready_file`].
    #[must_use]
    pub fn launch(&self, command: &mut Command) -> Gateway {
        let gateway = self.spawn(command);
        eventually("the gateway is ready", || (gateway.probe("/readyz") == 200).then_some(()));
        gateway
    }

    fn command(&self, config: &Value, environment: &[(&str, &str)]) -> Command {
        let directory = self.directory.path();
        let config = write_config(directory, config);
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(config).arg("--ready-file").arg(directory.join(READY));
        command.envs(environment.iter().copied()).env("NO_COLOR", "1");
        command
    }

    fn spawn(&self, command: &mut Command) -> Gateway {
        let directory = self.directory.path().to_owned();
        std::fs::remove_file(directory.join(READY)).ok();
        let mut service = Service::spawn(command, &directory.join("output.log"));
        let ready: Value = eventually("the gateway writes its ready file", || {
            if let Some(status) = service.ended() {
                panic!("the gateway ended with {status} before it was ready:\n{}", service.output());
            }
            serde_json::from_slice(&std::fs::read(directory.join(READY)).ok()?).ok()
        });
        let listeners = ready["listeners"].as_object().expect("the ready file names listeners");
        let listeners = listeners.iter().map(|(name, at)| (name.clone(), socket(at))).collect();
        Gateway { service, directory, ready, listeners }
    }

    /// Writes the configuration as [`Site::start`] would and says where; for the other commands.
    #[must_use]
    pub fn configure(&self, config: &Value) -> PathBuf {
        write_config(self.directory.path(), config)
    }

    /// Where a gateway that is started by [`Site::launch`] must write its addresses.
    #[must_use]
    pub fn ready_file(&self) -> PathBuf {
        self.path(READY)
    }

    /// Runs the program to its end in this directory.
    #[must_use]
    pub fn portcullis(&self, arguments: &[&str]) -> Finished {
        run(Command::new(binary()).args(arguments).current_dir(self.directory.path()).env("NO_COLOR", "1"))
    }

    /// The same with something on standard input.
    #[must_use]
    pub fn portcullis_reading(&self, arguments: &[&str], input: &str) -> Finished {
        let input = self.write(".input", input);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("exec \"$0\" \"$@\" < .input").arg(binary()).args(arguments);
        let finished = run(shell.current_dir(self.directory.path()).env("NO_COLOR", "1"));
        std::fs::remove_file(input).unwrap();
        finished
    }
}

impl Gateway {
    /// The address of the listener with this name.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.listeners.get(listener).unwrap_or_else(|| panic!("`{listener}` listens: {}", self.ready))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.service.id()
    }

    /// A plain connection to the listener `edge`.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::plain(self.address("edge"), Protocol::H1).expect("the listener accepts")
    }

    /// One request on a plain connection of its own to the listener `edge`.
    #[must_use]
    pub fn ask(&self, ask: Ask) -> Reply {
        self.connect().send(ask).unwrap_or_else(|error| panic!("{error}\n{}", self.output()))
    }

    /// The status of a probe (`/livez`, `/readyz`); 0 when nothing answers.
    #[must_use]
    pub fn probe(&self, path: &str) -> u16 {
        let reply = Connection::plain(socket(&self.ready["probes"]), Protocol::H1)
            .and_then(|mut connection| connection.send(Ask::get("localhost", path)));
        reply.map_or(0, |reply| reply.status)
    }

    /// The metrics as Prometheus would read them.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut admin = Connection::plain(socket(&self.ready["admin"]), Protocol::H1)
            .expect("the admin listener accepts");
        admin.send(Ask::get("localhost", "/metrics")).expect("the admin listener answers").text()
    }

    /// The sum of all series whose line starts with `start` (a name, or a name and the first labels).
    #[must_use]
    pub fn metric(&self, start: &str) -> f64 {
        let metrics = self.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What the process holds.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let proc = PathBuf::from(format!("/proc/{}", self.id()));
        let count = |what: &str| std::fs::read_dir(proc.join(what)).map_or(0, Iterator::count);
        let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        Resources {
            resident_kib: resident.and_then(|kib| kib.parse().ok()).unwrap_or_default(),
            descriptors: count("fd"),
            threads: count("task"),
            series: self.metrics().lines().filter(|line| !line.starts_with('#')).count(),
        }
    }

    /// What the program printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.service.output()
    }

    /// The access log's records so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.join(ACCESS_LOG)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that the program ever wrote, as one text: output, access log, metrics.
    #[must_use]
    pub fn everything_said(&self) -> String {
        let access = std::fs::read_to_string(self.directory.join(ACCESS_LOG)).unwrap_or_default();
        format!("{}\n{access}\n{}", self.output(), self.metrics())
    }

    /// Replaces the configuration by rename, as an editor or a deployment does, and sends SIGHUP.
    pub fn reload(&self, config: &Value) {
        write_config(&self.directory, config);
        self.signal("HUP");
    }

    /// [`Gateway::reload`], and waits until the new generation serves.
    pub fn apply(&self, config: &Value) {
        let before = self.generation();
        self.reload(config);
        eventually("the new generation serves", || (self.generation() > before).then_some(()));
    }

    /// The number of the generation that serves.
    #[must_use]
    pub fn generation(&self) -> f64 {
        self.metric("portcullis_config_generation")
    }

    /// Sends a signal by name (`HUP`, `TERM`).
    pub fn signal(&self, name: &str) {
        self.service.signal(name);
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.service.ended()
    }

    /// The bytes that come back for these, on a plain connection of its own to the listener `edge`.
    #[must_use]
    pub fn exchange(&self, bytes: &str) -> String {
        wire::exchange(self.address("edge"), bytes)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(40).collect();
            eprintln!(
                "---- the gateway's last words\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// The program that was built beside the tests; `PORTCULLIS_BIN` names another.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTCULLIS_BIN") {
        return path.into();
    }
    let here = std::env::current_exe().unwrap();
    let built = here.ancestors().nth(2).unwrap().join("portcullis");
    assert!(
        built.exists(),
        "no gateway at {}: `cargo build -p portcullis` first, or `make test`",
        built.display()
    );
    built
}

fn write_config(directory: &Path, config: &Value) -> PathBuf {
    let mut config = config.clone();
    let defaults = [
        ("version", json!(1)),
        ("cores", json!(2)),
        (
            "admin",
            json!({ "bind": "127.0.0.1:0", "probes": "127.0.0.1:0", "socket": directory.join("control.sock") }),
        ),
        ("telemetry", json!({ "access_log": { "to": { "file": directory.join(ACCESS_LOG) } } })),
    ];
    for (key, value) in defaults {
        config.as_object_mut().expect("a configuration is a mapping").entry(key).or_insert(value);
    }
    if directory.join("policies").exists() && config.get("policies").is_none() {
        config["policies"] = json!({ "directory": "policies" });
    }
    let half = write(directory, ".portcullis.yaml.new", format!("{config:#}"));
    let whole = directory.join("portcullis.yaml");
    std::fs::rename(half, &whole).unwrap();
    whole
}

fn write(directory: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, contents).unwrap();
    path
}

fn socket(at: &Value) -> SocketAddr {
    at.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("`{at}` is an address"))
}

const READY: &str = "ready.json";
const ACCESS_LOG: &str = "access.log";
