use data_encoding::BASE64;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const FRAME: &str = include_str!("page.html");

/// The page, whole, and the policy that goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) html: String,
    /// The `Content-Security-Policy`: this script, this style, this server, and nothing else.
    pub(crate) policy: String,
}

impl Page {
    pub(crate) fn new() -> Self {
        let html = FRAME.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        );
        Self { html, policy }
    }
}

fn hash(text: &str) -> String {
    BASE64.encode(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_what_is_in_the_page_as_it_is_there() {
        let page = Page::new();
        for (open, close, directive) in [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")]
        {
            let (_, rest) = page.html.split_once(open).expect(open);
            let (inside, rest) = rest.split_once(close).expect(close);
            assert!(!rest.contains(open), "one of each");
            assert!(page.policy.contains(&format!("{directive} 'sha256-{}'", hash(inside))));
        }
        let elsewhere = ["http://", "https://", "src=", "@import", "url("];
        let svg = "http://www.w3.org/2000/svg";
        let html = page.html.replace(svg, "");
        assert!(elsewhere.iter().all(|mark| !html.contains(mark)), "nothing comes from elsewhere");
    }
}
