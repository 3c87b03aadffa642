//! Vault nodes with raft storage: what a restart leaves standing, sealed, stepped down, killed.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually;
use crate::port::free_port;
use crate::process::Service;
use crate::vault::{audited, count, enable_audit, vault_command};
use crate::vault_client::{VaultClient, text};

/// A cluster of one or three nodes over plain HTTP on loopback, initialised with one key share; killed when dropped.
/// All nodes write one audit log.
pub struct VaultCluster {
    nodes: Vec<Node>,
    key: String,
    directory: TempDir,
}

struct Node {
    client: VaultClient,
    config: PathBuf,
    output: PathBuf,
    /// None while it is down.
    service: Option<Service>,
}

impl VaultCluster {
    /// Starts `count` nodes, initialises the first, has the others join and waits until all vote and one is active.
    #[must_use]
    pub fn start(count: usize) -> Self {
        for _ in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let nodes: Vec<_> = (0..count).map(|at| Node::new(&directory, at)).collect();
            let mut cluster = Self { nodes, key: String::new(), directory };
            if cluster.nodes.iter_mut().all(Node::starts) {
                cluster.form();
                return cluster;
            }
        }
        panic!("a cluster did not start on any of four sets of ports");
    }

    fn form(&mut self) {
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = self.nodes[0].client.write("sys/init", &init);
        self.key = text(&made["keys_base64"][0]);
        for node in &mut self.nodes {
            node.client.token = text(&made["root_token"]);
        }
        self.unseal(0);
        assert_eq!(self.active(), 0);
        // Beside the intervals below: how long a node must be well before it votes.
        let settings = json!({ "server_stabilization_time": "100ms" });
        self.nodes[0].client.write("sys/storage/raft/autopilot/configuration", &settings);
        for at in 1..self.nodes.len() {
            let join = json!({ "leader_api_addr": self.nodes[0].client.url() });
            self.nodes[at].client.write("sys/storage/raft/join", &join);
            self.unseal(at);
        }
        eventually("all nodes vote", || {
            let (_, answer) = self.nodes[0].client.call("GET", "sys/storage/raft/configuration", None);
            let servers = answer["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
            (servers.iter().filter(|server| server["voter"] == true).count() == self.nodes.len())
                .then_some(())
        });
        enable_audit(self.root(), &self.directory.path().join("audit.json"));
    }

    /// The addresses of all nodes, as a configuration names them.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.url()).collect()
    }

    /// A node, with the root token.
    #[must_use]
    pub fn node(&self, at: usize) -> &VaultClient {
        &self.nodes[at].client
    }

    /// The active node, with the root token.
    #[must_use]
    pub fn root(&self) -> &VaultClient {
        self.node(self.active())
    }

    /// Which node is active; waits for an election.
    #[must_use]
    pub fn active(&self) -> usize {
        eventually("a node is active", || self.nodes.iter().position(Node::is_active))
    }

    /// Seals a node (the active one: others pass the request on).
    pub fn seal(&self, at: usize) {
        self.node(at).write("sys/seal", &json!({}));
    }

    /// Unseals a node and waits until it says so.
    pub fn unseal(&self, at: usize) {
        eventually("the node is unsealed", || {
            // A node that has just joined takes the key only when the leader has answered it.
            let (_, answer) = self.node(at).call("POST", "sys/unseal", Some(&json!({ "key": self.key })));
            (answer["sealed"] == false).then_some(())
        });
    }

    /// Has the active node give up its office; says which it was.
    pub fn step_down(&self) -> usize {
        let former = self.active();
        self.node(former).write("sys/step-down", &json!({}));
        former
    }

    /// Ends a node as a crash does.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at].service.take().expect("the node runs").kill();
    }

    /// Starts a node that was killed, on its port and its storage; sealed, unless `unseal`ed next.
    pub fn restart(&mut self, at: usize) {
        assert!(self.nodes[at].starts(), "the node starts again");
    }

    /// Sends a signal to a node's process (`STOP`, `CONT`).
    pub fn signal(&self, at: usize, name: &str) {
        self.nodes[at].service.as_ref().expect("the node runs").signal(name);
    }

    /// The requests so far, see [`crate::Vault::audit`].
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        audited(&self.directory.path().join("audit.json"))
    }

    /// How many requests so far had a path that starts with `start`.
    #[must_use]
    pub fn audited(&self, start: &str) -> usize {
        count(&self.audit(), start)
    }
}

impl Drop for VaultCluster {
    fn drop(&mut self) {
        for service in self.nodes.iter_mut().filter_map(|node| node.service.as_mut()) {
            service.kill();
        }
    }
}

impl Node {
    fn new(directory: &TempDir, at: usize) -> Self {
        let (port, cluster_port) = (free_port(), free_port());
        let path = |name: &str| directory.path().join(format!("{name}{at}"));
        std::fs::create_dir(path("raft")).unwrap();
        let config = json!({
            "disable_mlock": true,
            "api_addr": format!("http://127.0.0.1:{port}"),
            "cluster_addr": format!("http://127.0.0.1:{cluster_port}"),
            // The shortest election; nodes that join vote within a second, instead of within twenty.
            "storage": { "raft": {
                "path": path("raft"), "node_id": format!("n{at}"), "performance_multiplier": "1",
                "autopilot_reconcile_interval": "200ms", "autopilot_update_interval": "200ms",
            } },
            "listener": { "tcp": {
                "address": format!("127.0.0.1:{port}"), "cluster_address": format!("127.0.0.1:{cluster_port}"),
                "tls_disable": true,
            } },
        });
        let file = directory.path().join(format!("node{at}.json"));
        std::fs::write(&file, config.to_string()).unwrap();
        let client =
            VaultClient { address: ([127, 0, 0, 1], port).into(), trust: None, token: String::new() };
        Self { client, config: file, output: path("output"), service: None }
    }

    fn starts(&mut self) -> bool {
        let mut command = vault_command();
        command.arg("server").arg(format!("-config={}", self.config.display()));
        let mut service = Service::spawn(&mut command, &self.output);
        let up = eventually("the node starts or gives up", || {
            if service.ended().is_some() {
                return Some(false);
            }
            (self.client.call("GET", "sys/seal-status", None).0 == 200).then_some(true)
        });
        if !up {
            eprintln!("a node did not start: {}", service.output());
        }
        self.service = Some(service);
        up
    }

    fn is_active(&self) -> bool {
        self.service.is_some() && self.client.call("GET", "sys/health", None).0 == 200
    }
}
