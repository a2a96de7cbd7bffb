//! A server that knows a caller of each kind with each role.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::ROLES;
use crate::harness::Server;
use crate::harness::identity::{Authority, Pair, channel, token};

/// Every way to say who one is, and three of not saying it.
pub const KINDS: [&str; 8] =
    ["token", "password", "htpasswd", "certificate", "oidc", "anonymous", "bad token", "bad password"];

/// What a caller shows.
#[derive(Clone)]
pub struct Credential {
    pub role: &'static str,
    pub is_known: bool,
    pub header: Option<String>,
    pub certificate: Option<Pair>,
}

/// The server and what it was told.
pub struct Setting {
    pub server: Server,
    pub authority: Authority,
    tokens: Vec<(&'static str, String)>,
    team: String,
    certificates: Vec<(&'static str, Pair)>,
    signer: Signer,
    _folder: TempDir,
}

impl Setting {
    pub fn start() -> Arc<Self> {
        Self::start_with("")
    }

    /// `auth` are more lines of the section `[auth]`.
    pub fn start_with(auth: &str) -> Arc<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        std::fs::write(at("ca.pem"), &authority.pem).expect("written");
        authority.issue("server", &["localhost"]).write(folder.path());
        let signer = Signer::new();
        std::fs::write(at("jwks.json"), signer.jwks()).expect("written");
        let held = |role: &'static str| if role == "none" { "read@nowhere" } else { role };
        let mut lines = String::new();
        let mut tokens = Vec::new();
        let mut htpasswd = String::new();
        let mut rights = String::new();
        let mut certificates = Vec::new();
        for role in ROLES {
            let (token, line) = token(&format!("token-{role}"), &[held(role)]);
            tokens.push((role, token));
            lines.push_str(&format!("{line}\n"));
            htpasswd.push_str(&format!("user-{role}:{{SHA}}{}\n", sha1_base64(&format!("secret-{role}"))));
            let roles = held(role);
            rights.push_str(&format!("[auth.users.user-{role}]\nroles = [\"{roles}\"]\n"));
            rights.push_str(&format!("[auth.certificates.\"cert-{role}\"]\nroles = [\"{roles}\"]\n"));
            certificates.push((role, authority.issue(&format!("cert-{role}"), &[])));
        }
        let (team, line) = token("team", &["cas-write@team/a", "ac-write@team/a"]);
        std::fs::write(at("tokens"), lines + &line).expect("written");
        std::fs::write(at("htpasswd"), htpasswd).expect("written");
        let rules = ROLES.map(|role| {
            format!("[[auth.oidc.rules]]\nclaims = {{ role = \"{role}\" }}\nroles = [\"{}\"]\n", held(role))
        });
        let config = format!(
            "[tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n[auth]\ntoken_file = {:?}\nhtpasswd = {:?}\n{auth}\n{rights}\
             [[auth.oidc]]\nissuer = \"https://issuer\"\naudience = [\"twofold\"]\njwks = {:?}\n{}",
            at("cert.pem"),
            at("key.pem"),
            at("ca.pem"),
            at("tokens"),
            at("htpasswd"),
            at("jwks.json"),
            rules.concat()
        );
        let file: PathBuf = at("twofold.toml");
        std::fs::write(&file, config).expect("written");
        let server = Server::start(&["--config", file.to_str().expect("a path of UTF-8")]);
        Arc::new(Self { server, authority, tokens, team, certificates, signer, _folder: folder })
    }

    /// A credential of this kind for this role; `None` where the kind has no roles.
    pub fn credential(&self, kind: &str, role: &'static str) -> Option<Credential> {
        let find =
            |held: &[(&'static str, String)]| held.iter().find(|(known, _)| *known == role).map(|(_, it)| it.clone());
        let known = |header: String| Some(Credential { role, is_known: true, header: Some(header), certificate: None });
        let nobody = |header: Option<String>| {
            (role == "none").then_some(Credential { role, is_known: false, header, certificate: None })
        };
        match kind {
            "token" => known(format!("Bearer {}", find(&self.tokens)?)),
            // Any user, the token as the password, in the URL-safe alphabet as Bazel sends it.
            "password" => {
                known(format!("Basic {}", BASE64URL_NOPAD.encode(format!("any??>:{}", find(&self.tokens)?).as_bytes())))
            }
            "htpasswd" => known(format!("Basic {}", BASE64.encode(format!("user-{role}:secret-{role}").as_bytes()))),
            "certificate" => {
                let (_, pair) = self.certificates.iter().find(|(known, _)| *known == role)?;
                Some(Credential { role, is_known: true, header: None, certificate: Some(pair.clone()) })
            }
            "oidc" => known(format!("Bearer {}", self.signer.token(role))),
            "anonymous" => nobody(None),
            "bad token" => nobody(Some(format!("Bearer {}x", self.team))),
            "bad password" => nobody(Some(format!("Basic {}", BASE64.encode(b"user-admin:secret-read")))),
            other => panic!("no such kind: {other}"),
        }
    }

    /// Who may write in `team/a` and below it.
    pub fn team_writer(&self) -> Credential {
        let header = Some(format!("Bearer {}", self.team));
        Credential { role: "team", is_known: true, header, certificate: None }
    }

    /// A connection that shows the certificate, where there is one.
    pub fn channel(&self, credential: &Credential) -> Channel {
        channel(self.server.address(), &self.authority.pem, credential.certificate.as_ref())
    }
}

fn sha1_base64(text: &str) -> String {
    use sha1::Digest;
    BASE64.encode(&sha1::Sha1::digest(text.as_bytes()))
}

/// An issuer of OIDC tokens.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).expect("a key"))
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..]));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "x": x, "y": y }] }).to_string()
    }

    fn token(&self, role: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = json!({ "iss": "https://issuer", "aud": "twofold", "exp": now + 600, "sub": "job", "role": role });
        let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(json!({ "alg": "ES256", "kid": "k" })), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}
