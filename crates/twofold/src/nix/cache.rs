use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use cache_types::nix::{NarInfo, StoreDir, StorePathHash};
use data_encoding::BASE64;
use ureq::http::Response;
use ureq::{Agent, Body, SendBody};

/// The longest answer that is read into memory.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;
/// The variable that holds a token.
const TOKEN: &str = "TWOFOLD_TOKEN";

/// Which Nix cache a command talks to, and how.
#[derive(clap::Args, Clone)]
pub struct CacheArgs {
    /// The cache
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8980/nix/default")]
    cache: CacheUrl,

    /// File with user names and passwords, as Nix's netrc-file; the variable TWOFOLD_TOKEN goes before it
    #[arg(long, value_name = "FILE")]
    netrc: Option<PathBuf>,

    /// Print JSON for machines
    #[arg(long)]
    pub json: bool,
}

/// `http://` or `https://`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CacheUrl(String);

impl FromStr for CacheUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_end_matches('/');
        if text.starts_with("http://") || text.starts_with("https://") {
            Ok(Self(text.to_owned()))
        } else {
            Err("a cache is http://HOST:PORT/nix/NAME")
        }
    }
}

/// A Nix cache over HTTP. Cheap to clone; all calls block.
#[derive(Clone)]
pub struct Cache {
    agent: Agent,
    url: String,
    authorization: Option<String>,
    /// What all its paths lie in.
    pub store_dir: StoreDir,
    /// What it says of itself.
    pub about: String,
}

impl CacheArgs {
    /// Asks the cache what it is.
    pub fn connect(&self) -> anyhow::Result<Cache> {
        let config = Agent::config_builder().http_status_as_error(false);
        let agent: Agent = config.user_agent(concat!("twofold/", env!("CARGO_PKG_VERSION"))).build().into();
        let CacheUrl(url) = self.cache.clone();
        let authorization = match std::env::var(TOKEN) {
            Ok(token) => Some(format!("Bearer {token}")),
            Err(_) => self.netrc.as_deref().map(|file| basic(file, &url)).transpose()?.flatten(),
        };
        let mut cache = Cache { agent, url, authorization, store_dir: StoreDir::default(), about: String::new() };
        let advice = "no cache answers there: start one with `twofold serve`, or name another with --cache";
        cache.about = cache.text("nix-cache-info").context(advice)?.context("that is no Nix cache")?;
        let dir = cache.about.lines().find_map(|line| line.strip_prefix("StoreDir: "));
        cache.store_dir = StoreDir::parse(dir.context("that is no Nix cache: it names no StoreDir")?)?;
        Ok(cache)
    }
}

impl Cache {
    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A text; `None` when it is not there.
    pub fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        let mut request = self.agent.get(format!("{}/{path}", self.url));
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let mut answer = request.call().with_context(|| format!("cannot ask {}", self.url))?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.body_mut().with_config().limit(MAX_TEXT_BYTES).read_to_string()?)),
            404 | 410 => Ok(None),
            _ => Err(refused(path, answer)),
        }
    }

    /// Whether there is something under this name.
    pub fn has(&self, path: &str) -> anyhow::Result<bool> {
        let mut request = self.agent.head(format!("{}/{path}", self.url));
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let answer = request.call().with_context(|| format!("cannot ask {}", self.url))?;
        match answer.status().as_u16() {
            200 => Ok(true),
            404 | 410 => Ok(false),
            _ => Err(refused(path, answer)),
        }
    }

    /// What the cache knows of a path.
    pub fn narinfo(&self, path: StorePathHash) -> anyhow::Result<Option<NarInfo>> {
        let text = self.text(&format!("{path}.narinfo"))?;
        text.map(|text| NarInfo::parse(&text, &self.store_dir).context("the cache's narinfo")).transpose()
    }

    /// Puts what a reader gives, `size_bytes` long.
    pub fn put(&self, path: &str, size_bytes: u64, mut body: impl Read) -> anyhow::Result<()> {
        let mut request =
            self.agent.put(format!("{}/{path}", self.url)).header("content-length", size_bytes.to_string());
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let answer = request.send(SendBody::from_reader(&mut body)).with_context(|| format!("cannot put {path}"))?;
        if answer.status().is_success() { Ok(()) } else { Err(refused(path, answer)) }
    }

    /// Removes what is under this name.
    pub fn delete(&self, path: &str) -> anyhow::Result<()> {
        let mut request = self.agent.delete(format!("{}/{path}", self.url));
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let answer = request.call().with_context(|| format!("cannot ask {}", self.url))?;
        if answer.status().is_success() { Ok(()) } else { Err(refused(path, answer)) }
    }
}

fn refused(path: &str, mut answer: Response<Body>) -> anyhow::Error {
    let status = answer.status();
    let reason = answer.body_mut().with_config().limit(4096).read_to_string().unwrap_or_default();
    let advice = match status.as_u16() {
        401 => " (give a token in TWOFOLD_TOKEN, or a --netrc file)",
        _ => "",
    };
    anyhow::anyhow!("{path}: {status}: {}{advice}", reason.trim())
}

/// The `Authorization` for the host of the URL, where the file has one.
fn basic(file: &Path, url: &str) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let host = url.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    match credentials(&text, host) {
        Some((user, password)) => Ok(Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))),
        None if text.contains("machine") || text.contains("default") => Ok(None),
        None => {
            bail!("{} is no netrc file: it has lines such as `machine HOST login USER password TOKEN`", file.display())
        }
    }
}

/// User and password for a host in the text of a netrc file; the first entry that fits.
fn credentials(text: &str, host: &str) -> Option<(String, String)> {
    let mut words = text.split_whitespace();
    let (mut fits, mut user, mut password) = (false, None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if let (true, Some(password)) = (fits, &password) {
                    return Some((user.unwrap_or_default(), String::clone(password)));
                }
                fits = word == "default" || words.next() == Some(host);
                (user, password) = (None, None);
            }
            "login" => user = words.next().map(str::to_owned),
            "password" => password = words.next().map(str::to_owned),
            _ => {}
        }
    }
    password.filter(|_| fits).map(|password| (user.unwrap_or_default(), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_the_host_counts() {
        let text = "machine a login u password p\nmachine b\n  login v\n  password q\ndefault login w password r\n";
        let of = |host| credentials(text, host).map(|(user, password)| format!("{user}:{password}"));
        assert_eq!(of("a").as_deref(), Some("u:p"));
        assert_eq!(of("b").as_deref(), Some("v:q"));
        assert_eq!(of("c").as_deref(), Some("w:r"));
        assert_eq!(credentials("machine a login u password p", "b"), None);
        assert_eq!(credentials("", "b"), None);
    }

    #[test]
    fn caches_have_urls() {
        assert_eq!("http://h/nix/a/".parse::<CacheUrl>(), Ok(CacheUrl("http://h/nix/a".to_owned())));
        assert!("h/nix/a".parse::<CacheUrl>().is_err());
    }
}
