use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_types::nix::{PublicKey, StoreDir};
use nix_cache::{
    Audience, CacheName, CacheSettings, Completeness, DEFAULT_CACHE, KeyFileError, Sign, Transfer, Upstream, read_key,
    read_or_make_key,
};

/// One Nix cache as it is configured: its settings, and where its key is.
#[derive(Clone, Debug)]
pub struct NixCache {
    pub(crate) settings: CacheSettings,
    key_file: Option<PathBuf>,
}

impl Default for NixCache {
    fn default() -> Self {
        let name = CacheName::parse(DEFAULT_CACHE).expect("the name of the default cache is one");
        Self { settings: CacheSettings::new(name), key_file: None }
    }
}

impl NixCache {
    /// Reads `NAME[,public][,closure][,KEY=VALUE]…`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = CacheName::parse(parts.next().unwrap_or_default());
        let name = name.ok_or("a cache has a name of 1 to 64 of a-z 0-9 . _ -, such as main")?;
        let mut cache = Self { settings: CacheSettings::new(name), key_file: None };
        for part in parts {
            cache.set(part)?;
        }
        if cache.settings.sign == Sign::Never && cache.key_file.is_some() {
            return Err("sign=never goes without key=".to_owned());
        }
        Ok(cache)
    }

    fn set(&mut self, part: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        match part.split_once('=').unwrap_or((part, "")) {
            ("public", "") => settings.audience = Audience::Public,
            ("closure", "") => settings.completeness = Completeness::Closure,
            ("priority", value) => {
                settings.priority = value.parse().map_err(|_| "priority= is a number; lower is asked first")?;
            }
            ("store-dir", value) => settings.store_dir = StoreDir::parse(value).map_err(|error| error.to_string())?,
            ("key", "") => return Err("key= names a file with a secret key".to_owned()),
            ("key", value) => self.key_file = Some(value.into()),
            ("sign", "never") => settings.sign = Sign::Never,
            ("sign", "always") => settings.sign = Sign::Always,
            ("sign", "only-if-unsigned") => settings.sign = Sign::OnlyIfUnsigned,
            ("sign", _) => return Err("sign= is never, always or only-if-unsigned".to_owned()),
            ("transfer", "zstd") => settings.transfer = Transfer::Zstd,
            ("transfer", "plain") => settings.transfer = Transfer::Plain,
            ("transfer", _) => return Err("transfer= is zstd or plain".to_owned()),
            ("upstream", value) => settings.upstreams.push(upstream(value)?),
            (other, _) => {
                return Err(format!(
                    "{other} is no setting of a cache; there are public, closure, priority=, store-dir=, key=, sign=, \
                     transfer= and upstream="
                ));
            }
        }
        Ok(())
    }

    /// The settings with the key, which is made where there is none.
    pub(crate) fn with_key(&self, data: &Path) -> Result<CacheSettings, KeyFileError> {
        let mut settings = self.settings.clone();
        if settings.sign == Sign::Never {
            return Ok(settings);
        }
        let key = match &self.key_file {
            Some(file) => read_key(file)?,
            None => {
                let file = data.join("nix").join(format!("{}.secret", settings.name));
                read_or_make_key(&file, &format!("twofold-{}", settings.name))?
            }
        };
        tracing::info!(cache = %settings.name, public_key = %key.public(), "Nix cache");
        settings.key = Some(key);
        Ok(settings)
    }
}

/// Reads `URL#KEY[#KEY]…`.
fn upstream(text: &str) -> Result<Upstream, String> {
    let mut parts = text.split('#');
    let url = parts.next().unwrap_or_default().trim_end_matches('/');
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err("upstream= is URL#KEY, such as https://cache.nixos.org#cache.nixos.org-1:…".to_owned());
    }
    let keys = parts.map(|key| PublicKey::parse(key).map_err(|error| format!("upstream {url}: {error}")));
    let keys = keys.collect::<Result<Vec<PublicKey>, String>>()?;
    if keys.is_empty() {
        return Err(format!("upstream {url} needs the key that it signs with: {url}#NAME:BASE64"));
    }
    Ok(Upstream { url: url.to_owned(), keys })
}

/// How often what is pinned is touched, so that no lease runs out.
pub(crate) fn touch_every(lease: Duration) -> Duration {
    (lease / 4).max(Duration::from_millis(250))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "test.example-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

    #[test]
    fn every_setting_is_read() {
        let text = format!(
            "main,public,closure,priority=10,store-dir=/gnu/store,key=/etc/key,sign=only-if-unsigned,transfer=plain,\
             upstream=https://cache.example.org/#{KEY}"
        );
        let NixCache { settings, key_file } = NixCache::parse(&text).expect("a cache");
        assert_eq!((settings.name.as_str(), settings.priority), ("main", 10));
        assert_eq!((settings.audience, settings.completeness), (Audience::Public, Completeness::Closure));
        assert_eq!((settings.sign, settings.transfer), (Sign::OnlyIfUnsigned, Transfer::Plain));
        assert_eq!((settings.store_dir.as_str(), key_file), ("/gnu/store", Some("/etc/key".into())));
        assert_eq!(settings.upstreams[0].url, "https://cache.example.org");
        assert_eq!(settings.upstreams[0].keys[0].to_string(), KEY);
    }

    #[test]
    fn faults_say_what_to_write() {
        for (text, says) in [
            ("", "name"),
            ("Main", "name"),
            ("a,colour=red", "no setting"),
            ("a,priority=high", "number"),
            ("a,sign=maybe", "only-if-unsigned"),
            ("a,upstream=https://x", "needs the key"),
            ("a,upstream=ftp://x", "URL#KEY"),
            ("a,sign=never,key=/k", "without"),
        ] {
            let error = NixCache::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
