//! The surroundings that most tests share: an authority, an upstream, a directory, and a configuration to start from.

use serde_json::{Value, json};
use testkit::{Algorithm, Authority, Issued, Leaf, Site, TokenKey, Trust, Upstream, jwks};

/// The host that most tests ask for.
pub(crate) const API: &str = "api.example.com";
/// The host that some tests guard by another TLS policy.
pub(crate) const ADMIN: &str = "admin.example.com";
/// The issuer and the audience of tokens whose key set is a file.
pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "gateway";
/// The workload that clients with a certificate usually are.
pub(crate) const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";

pub(crate) struct Scene {
    pub(crate) site: Site,
    /// Issues the edge's certificate.
    pub(crate) authority: Authority,
    /// Issues the clients' certificates; `ca.pem` and the trust entry `mesh`.
    pub(crate) mesh: Authority,
    pub(crate) upstream: Upstream,
    /// Signs the tokens of `ISSUER`; its key set is `jwks.json`.
    pub(crate) key: TokenKey,
}

impl Scene {
    /// Everything is in place; policy permits everybody everything.
    pub(crate) fn new() -> Self {
        let scene = Self::without_policy();
        scene.site.policy("everybody", "permit(principal, action, resource);");
        scene
    }

    /// The same with no policy at all.
    pub(crate) fn without_policy() -> Self {
        let (site, authority, mesh) =
            (Site::new(), Authority::root("edge root"), Authority::root("mesh root"));
        let key = TokenKey::generate(Algorithm::Es256, "key-1");
        site.certificate("edge", &authority.issue(edge()));
        site.write("ca.pem", mesh.pem());
        site.write("roots.pem", authority.pem());
        site.write("jwks.json", jwks(&[&key]).to_string());
        std::fs::create_dir_all(site.path("policies")).unwrap();
        Self { site, authority, mesh, upstream: Upstream::start(), key }
    }

    /// A plain listener `edge`; everything goes to the upstream, nobody has to say who they are.
    pub(crate) fn plain(&self) -> Value {
        json!({
            "listeners": { "edge": { "bind": "127.0.0.1:0" } },
            "upstreams": { "app": { "endpoints": [self.upstream.url()] } },
            "routes": [{ "name": "all", "on": ["edge"], "path": "/**", "authenticate": "none", "upstream": "app" }],
        })
    }

    /// The same over TLS, asking for client certificates as `client` says (`off`, `optional`, `required`).
    pub(crate) fn tls(&self, client: &str) -> Value {
        let mut config = self.plain();
        let client = if client == "off" {
            json!({ "mode": "off" })
        } else {
            json!({ "mode": client, "trust": ["mesh"] })
        };
        config["listeners"]["edge"]["tls"] = json!({ "certificates": ["edge"], "client": client });
        config["certificates"] =
            json!({ "edge": { "files": { "certificate": "edge.pem", "key": "edge.key" } } });
        config["trust"] = json!({
            "mesh": { "files": { "ca": "ca.pem" }, "names": "spiffe", "trust_domain": "example.org" }
        });
        config
    }

    /// Plain, with every route behind a token of `ISSUER`.
    pub(crate) fn tokens(&self) -> Value {
        let mut config = self.plain();
        config["identity"] = json!({ "jwt": { "staff": {
            "issuer": ISSUER, "audience": [AUDIENCE], "jwks": { "file": "jwks.json" }, "algorithms": ["ES256"],
        } } });
        config["routes"][0]["authenticate"] = json!({ "any": ["staff"] });
        config
    }

    /// A client that trusts the edge and has no certificate.
    pub(crate) fn client(&self) -> Trust {
        Trust::new(self.authority.pem(), None)
    }

    /// A client that is a workload of the mesh.
    pub(crate) fn workload(&self, id: &str) -> Trust {
        Trust::new(self.authority.pem(), Some(&self.member(id)))
    }

    /// A workload's certificate.
    pub(crate) fn member(&self, id: &str) -> Issued {
        self.mesh.issue(Leaf::spiffe(id))
    }

    /// A valid token for this subject.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.key.token(&testkit::claims(ISSUER, AUDIENCE, subject))
    }
}

/// What the edge's certificates are for.
pub(crate) fn edge() -> Leaf {
    Leaf::server(&[API, ADMIN, "localhost", "127.0.0.1"])
}
