/// The paths of HTTP that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Bazel's `/cas/`.
    Cas,
    /// Bazel's `/ac/`, which others use too.
    Action,
    /// Both layouts of ccache.
    Ccache,
    /// sccache's WebDAV.
    WebDav,
    /// Gradle's build cache.
    Gradle,
    /// Turborepo's artifacts.
    Turborepo,
    /// Nx's cache.
    Nx,
    /// Nix binary caches.
    Nix,
    /// The prompt cache.
    Prompt,
    /// What operators ask: health, readiness, metrics, status.
    Operation,
    /// Any other.
    Other,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Cas,
        Self::Action,
        Self::Ccache,
        Self::WebDav,
        Self::Gradle,
        Self::Turborepo,
        Self::Nx,
        Self::Nix,
        Self::Prompt,
        Self::Operation,
        Self::Other,
    ];

    /// The route that a path belongs to, whether or not it is well formed.
    pub fn of_path(path: &str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let Some(first) = segments.next() else {
            return Self::Operation;
        };
        let (mut before_last, mut last) = ("", first);
        for segment in segments {
            (before_last, last) = (last, segment);
        }
        match (first, before_last) {
            ("webdav", _) => Self::WebDav,
            ("gradle", _) => Self::Gradle,
            ("v8", _) => Self::Turborepo,
            ("v1", "cache") => Self::Nx,
            ("v1", "prompt") => Self::Prompt,
            ("nix", _) => Self::Nix,
            ("healthz" | "readyz" | "metrics" | "status" | "status.json", "") => Self::Operation,
            // A ccache key is shorter than any hash, and may be split after two digits.
            (_, head) if head.len() == 2 && last.len() == 38 => Self::Ccache,
            (_, "cas") => Self::Cas,
            (_, "ac") => Self::Action,
            _ if last.len() == 40 => Self::Ccache,
            _ => Self::Other,
        }
    }

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cas => "cas",
            Self::Action => "ac",
            Self::Ccache => "ccache",
            Self::WebDav => "webdav",
            Self::Gradle => "gradle",
            Self::Turborepo => "turborepo",
            Self::Nx => "nx",
            Self::Nix => "nix",
            Self::Prompt => "prompt",
            Self::Operation => "operation",
            Self::Other => "other",
        }
    }
}

/// The methods of HTTP that are counted each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Other,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Put, Self::Post, Self::Delete, Self::Other];

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Other => "other",
        }
    }
}

impl From<&http::Method> for Method {
    fn from(method: &http::Method) -> Self {
        Self::ALL.into_iter().find(|known| known.name() == method.as_str()).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_path_has_a_route_and_doubled_slashes_change_none(path in "(/{1,2}[a-z0-9.%]{0,45}){0,5}") {
            let single = path.replace("//", "/");
            prop_assert_eq!(Route::of_path(&path), Route::of_path(&single));
        }
    }

    #[test]
    fn each_client_has_its_route() {
        let (hash, key) = ("a".repeat(64), "b".repeat(40));
        for (path, route) in [
            (format!("/cas/{hash}"), Route::Cas),
            (format!("//team/a/ac/{hash}"), Route::Action),
            (format!("/p/{key}"), Route::Ccache),
            (format!("/ac/{}", &key[2..]), Route::Ccache),
            ("/webdav/a/b".to_owned(), Route::WebDav),
            ("/gradle/x".to_owned(), Route::Gradle),
            ("/v8/artifacts/x".to_owned(), Route::Turborepo),
            ("/v1/cache/1".to_owned(), Route::Nx),
            ("/v1/prompt/lookup".to_owned(), Route::Prompt),
            ("/nix/team/nar/x.nar".to_owned(), Route::Nix),
            ("/".to_owned(), Route::Operation),
            ("/metrics".to_owned(), Route::Operation),
            ("/favicon.ico".to_owned(), Route::Other),
        ] {
            assert_eq!(Route::of_path(&path), route, "{path}");
        }
        assert!(Route::ALL.into_iter().enumerate().all(|(index, route)| route as usize == index));
        assert!(Method::ALL.into_iter().enumerate().all(|(index, method)| method as usize == index));
        assert_eq!(Method::from(&http::Method::PUT), Method::Put);
    }
}
