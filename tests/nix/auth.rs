//! A private cache and real Nix: netrc and tokens against the roles of the byte layer.

use data_encoding::BASE64;
use tempfile::TempDir;

use crate::harness::identity::token;
use crate::harness::{Server, http, say};
use crate::machine::{CHAIN, Machine, lines};
use crate::{show, url};

/// A server that asks who calls: tokens and users who read, who push, and who may do neither.
struct Guarded {
    server: Server,
    reader: String,
    pusher: String,
    folder: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let (reader, reads) = token("reader", &["read"]);
        let (pusher, pushes) = token("pusher", &["nix-push@nix/default"]);
        std::fs::write(at("tokens"), format!("{reads}\n{pushes}\n")).expect("written");
        let user = |name: &str| format!("{name}:{{SHA}}{}\n", sha1(&format!("secret-of-{name}")));
        std::fs::write(at("htpasswd"), user("reader") + &user("pusher")).expect("written");
        let config = format!(
            "[auth]\ntoken_file = {:?}\nhtpasswd = {:?}\n[auth.users.reader]\nroles = [\"read\"]\n\
             [auth.users.pusher]\nroles = [\"nix-push@nix/default\"]\n",
            at("tokens"),
            at("htpasswd")
        );
        std::fs::write(at("twofold.toml"), config).expect("written");
        let server = Server::start(&["--config", at("twofold.toml").to_str().expect("a path of UTF-8")]);
        Self { server, reader, pusher, folder }
    }

    /// A machine with a netrc file for the cache.
    fn machine(&self, user: &str, password: &str) -> Machine {
        let netrc = self.folder.path().join(format!("netrc-{user}"));
        std::fs::write(&netrc, format!("machine 127.0.0.1\nlogin {user}\npassword {password}\n")).expect("written");
        Machine::default().with(&format!("netrc-file = {}", netrc.display()))
    }

    fn get(&self, path: &str, authorization: Option<&str>) -> http::Answer {
        let headers: Vec<(&str, &str)> = authorization.into_iter().map(|value| ("Authorization", value)).collect();
        http::exchange(self.server.listener(), &http::request(&format!("GET /nix/default/{path}"), &headers, b""))
    }
}

fn sha1(text: &str) -> String {
    use sha1::Digest;
    BASE64.encode(&sha1::Sha1::digest(text.as_bytes()))
}

#[test]
fn a_private_cache_is_pushed_and_read_with_netrc_and_by_nobody_else() {
    let guarded = Guarded::start();
    let cache = url(&guarded.server);
    let push = format!("{CHAIN} nix copy --to '{cache}?compression=none' $(nix-build --no-out-link chain.nix)");

    // A reader may not push, nor may somebody without a credential; what they tried is not there.
    for (who, machine) in [("a reader", guarded.machine("any", &guarded.reader)), ("anonymous", Machine::default())] {
        let run = machine.run(&push);
        show(&format!("push as {who}"), &run);
        assert_ne!(run.code, 0, "{who} pushed: {}", run.output);
    }
    // The token as the password of any user, and a user of the htpasswd file.
    guarded.machine("any", &guarded.pusher).run(&push).expect_success();
    guarded.machine("pusher", "secret-of-pusher").run(&push).expect_success();
    let bearer = format!("Bearer {}", guarded.reader);
    let key = String::from_utf8(guarded.get("pubkey", Some(&bearer)).body).expect("a key").trim().to_owned();
    let build = format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)");
    for (user, password) in [("any", guarded.reader.as_str()), ("reader", "secret-of-reader")] {
        let machine = guarded.machine(user, password);
        let machine = machine.with(&format!("substituters = {cache}")).with(&format!("trusted-public-keys = {key}"));
        let built = machine.run(&build).expect_success();
        assert_eq!(lines(&built, "building '").len(), 0, "{user}: {}", built.output);
        say(format!("substituted as {user}"));
    }
    // The sample, filled in as its first line says.
    let sample = std::fs::read_to_string(crate::integration::sample("netrc")).expect("the sample");
    let netrc = guarded.folder.path().join("netrc");
    let filled = sample.replace("cache.example.org", "127.0.0.1").replace("TOKEN", &guarded.reader);
    assert!(filled != sample && filled.contains(&guarded.reader), "{sample}");
    std::fs::write(&netrc, filled).expect("written");
    let machine = Machine::trusting(&cache, &key).with(&format!("netrc-file = {}", netrc.display()));
    let built = machine.run(&build).expect_success();
    assert_eq!(lines(&built, "building '").len(), 0, "the sample of netrc: {}", built.output);
    say("substituted with the sample of netrc");
    // Hidden from everybody else: Nix builds.
    let built = Machine::trusting(&cache, &key).run(&build).expect_success();
    assert_eq!(lines(&built, "building '").len(), 3, "{}", built.output);
    assert_eq!(guarded.get("nix-cache-info", None).code, 401);
    assert!(!guarded.get("nix-cache-info", None).header("www-authenticate").is_empty());
}
