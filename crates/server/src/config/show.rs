use bytesize::ByteSize;
use reapi::{InstanceRule, UpstreamSettings, UpstreamWrite};
use toml::{Table, Value};

use super::{Config, Durability};
use crate::identity::{AuthSettings, Issuer, KeySource, TokenLine, grants};

impl Config {
    /// The settings as TOML, defaults filled in. Hashes of tokens are left out; files are named and not shown.
    pub fn show(&self) -> String {
        let mut table = Table::new();
        let mut put = |key: &str, value: Value| _ = table.insert(key.to_owned(), value);
        put("listen", list(self.listen.iter().map(ToString::to_string)));
        put("allow_anonymous", self.allow_anonymous.into());
        put("data", self.data.display().to_string().into());
        put("max_size", size(self.max_size_bytes));
        put("lease", time(self.lease));
        put("evict_floor", time(self.evict_floor));
        put("durability", durability(self.durability).into());
        put("drain", time(self.drain));
        put("nix_caches", list(self.nix_cache_texts.iter().cloned()));
        if let Some(idle) = self.idle_exit {
            put("idle_exit", time(idle));
        }
        put("log", self.log.as_str().into());
        if let Some(spans) = &self.spans {
            put("otlp_endpoint", spans.endpoint.as_str().into());
            put("otlp_sample", spans.share.into());
        }
        if let Some(upstream) = &self.upstream {
            put("upstream", self::upstream(upstream).into());
        }
        if let Some(function) = self.default_digest_function {
            put("default_digest_function", function.name().into());
        }
        if !self.instances.is_empty() {
            put("instances", Table::from_iter(self.instances.iter().map(instance)).into());
        }
        put("limits", self.limits().into());
        if let Some(tls) = &self.tls {
            let mut section = Table::new();
            section.insert("cert".to_owned(), tls.cert.display().to_string().into());
            section.insert("key".to_owned(), tls.key.display().to_string().into());
            if let Some(path) = &tls.client_ca {
                section.insert("client_ca".to_owned(), path.display().to_string().into());
            }
            put("tls", section.into());
        }
        put("prompt", super::prompt::show(&self.prompt).into());
        put("auth", auth(&self.auth).into());
        let lines = self.auth.tokens.iter().map(|line| format!("# a token of {}, its hash not shown\n", line.name));
        lines.collect::<String>() + &toml::to_string(&table).unwrap_or_default()
    }

    fn limits(&self) -> Table {
        let (transport, limits) = (&self.transport, &self.limits);
        Table::from_iter([
            ("connections".to_owned(), integer(transport.max_connections as u64)),
            ("streams_per_connection".to_owned(), integer(transport.max_streams.into())),
            ("headers".to_owned(), size(transport.max_header_list_bytes.into())),
            ("no_progress".to_owned(), time(limits.no_progress)),
            ("message".to_owned(), size(limits.message_bytes)),
            ("blob".to_owned(), size(limits.blob_bytes)),
            ("concurrent_uploads".to_owned(), integer(limits.uploads as u64)),
            ("uploads".to_owned(), size(limits.unknown_uploads_bytes)),
            ("zstd_window".to_owned(), size(1 << limits.zstd.window_log)),
            ("zstd_ratio".to_owned(), integer(limits.zstd.ratio)),
            ("patience".to_owned(), time(limits.memory.patience)),
            ("message_memory".to_owned(), size(limits.memory.messages_bytes)),
            ("download_memory".to_owned(), size(limits.memory.downloads_bytes)),
            ("upload_memory".to_owned(), size(limits.memory.uploads_bytes)),
        ])
    }
}

fn instance(rule: &InstanceRule) -> (String, Value) {
    let mut table = Table::from_iter([("strict_ac".to_owned(), rule.strict_ac.into())]);
    if let Some(function) = rule.default_digest_function {
        table.insert("default_digest_function".to_owned(), function.name().into());
    }
    (rule.prefix.to_string(), table.into())
}

/// Headers and tokens are left out.
fn upstream(upstream: &UpstreamSettings) -> Table {
    let write = match upstream.write {
        UpstreamWrite::Async => "async",
        UpstreamWrite::Sync => "sync",
        UpstreamWrite::Off => "off",
    };
    Table::from_iter([
        ("address".to_owned(), upstream.address.to_string().into()),
        ("write".to_owned(), write.into()),
        ("instance".to_owned(), upstream.client.instance.to_string().into()),
        ("connect_timeout".to_owned(), time(upstream.client.connect_timeout)),
        ("timeout".to_owned(), time(upstream.client.no_progress)),
        ("remember".to_owned(), time(upstream.remember)),
        ("queue".to_owned(), integer(upstream.queue as u64)),
    ])
}

fn auth(auth: &AuthSettings) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| _ = table.insert(key.to_owned(), value);
    put("anonymous_roles", list(grants::display(&auth.anonymous)));
    for (key, path) in [("token_file", &auth.token_file), ("htpasswd", &auth.htpasswd)] {
        if let Some(path) = path {
            put(key, path.display().to_string().into());
        }
    }
    if auth.htpasswd.is_some() {
        put("user_roles", list(grants::display(&auth.user_roles)));
        let users = auth.users.iter().map(|(name, user)| (name.clone(), rights(&user.grants, &user.tenant)));
        put("users", Table::from_iter(users).into());
    }
    let certificates = auth.certificates.iter().map(|held| (held.name.clone(), rights(&held.grants, &held.tenant)));
    put("certificates", Table::from_iter(certificates).into());
    put("oidc", Value::Array(auth.oidc.iter().map(issuer).collect()));
    table
}

fn rights(grants: &[cache_types::Grant], tenant: &str) -> Value {
    let mut table = Table::from_iter([("roles".to_owned(), list(grants::display(grants)))]);
    if TokenLine::is_name(tenant) {
        table.insert("tenant".to_owned(), tenant.into());
    }
    table.into()
}

fn issuer(issuer: &Issuer) -> Value {
    let rules = issuer.rules.iter().map(|rule| {
        let claims = rule.claims.iter().map(|(claim, value)| (claim.clone(), Value::from(value.as_str())));
        let claims = Table::from_iter(claims);
        Value::Table(Table::from_iter([
            ("claims".to_owned(), claims.into()),
            ("roles".to_owned(), list(grants::display(&rule.grants))),
        ]))
    });
    let jwks = match &issuer.jwks {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Url(url) => url.to_string(),
    };
    let mut table = Table::from_iter([
        ("issuer".to_owned(), issuer.issuer.as_str().into()),
        ("audience".to_owned(), list(issuer.audience.iter().cloned())),
        ("jwks".to_owned(), jwks.into()),
        ("name_claim".to_owned(), issuer.name_claim.as_str().into()),
        ("rules".to_owned(), Value::Array(rules.collect())),
    ]);
    if let Some(claim) = &issuer.tenant_claim {
        table.insert("tenant_claim".to_owned(), claim.as_str().into());
    }
    table.into()
}

fn list(items: impl IntoIterator<Item = String>) -> Value {
    Value::Array(items.into_iter().map(Value::String).collect())
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Exact: a size that is no round one stays a number of bytes.
fn size(bytes: u64) -> Value {
    let text = ByteSize(bytes).to_string();
    match text.parse::<ByteSize>() {
        Ok(ByteSize(same)) if same == bytes => text.into(),
        _ => integer(bytes),
    }
}

fn time(time: std::time::Duration) -> Value {
    humantime::format_duration(time).to_string().into()
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::PowerLoss => "power-loss",
        Durability::Process => "process",
    }
}
