use data_encoding::BASE64;
use http::HeaderMap;

use super::*;

fn bearer(token: &str) -> HeaderMap {
    headers(&format!("Bearer {token}"))
}

fn basic(user: &str, password: &str) -> HeaderMap {
    headers(&format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))])
}

async fn caller(identity: &Identity, headers: &HeaderMap) -> (String, bool) {
    let caller = match identity.identify(headers, None) {
        Identified::Now(caller) => caller,
        Identified::Later(check) => check.await,
    };
    (caller.name().to_owned(), caller.may_nothing())
}

fn identity(settings: &AuthSettings) -> Identity {
    Identity::new(settings, settings.read().expect("readable files"), None).expect("randomness")
}

#[tokio::test]
async fn without_authentication_everyone_may_everything_whatever_they_send() {
    let identity = identity(&AuthSettings::default());
    for headers in [HeaderMap::new(), bearer("any"), headers("nonsense")] {
        assert_eq!(caller(&identity, &headers).await, ("anonymous".to_owned(), false));
    }
}

#[tokio::test]
async fn each_credential_has_its_caller_and_a_bad_one_is_not_taken_for_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let htpasswd = folder.path().join("htpasswd");
    std::fs::write(&htpasswd, format!("alice:{}\n", bcrypt::hash("secret", 4).expect("hashes"))).expect("written");
    let read = grants::parse(["read"]).expect("roles");
    let (token, line) = TokenLine::generate("ci", "", read.clone()).expect("randomness");
    let settings = AuthSettings {
        anonymous: read.clone(),
        tokens: vec![line],
        htpasswd: Some(htpasswd),
        user_roles: read,
        ..AuthSettings::default()
    };
    let identity = identity(&settings);
    let is = async |headers: HeaderMap| caller(&identity, &headers).await;
    let open = |name: &str| (name.to_owned(), false);
    let refused = ("anonymous".to_owned(), true);
    assert_eq!(is(HeaderMap::new()).await, open("anonymous"));
    assert_eq!(is(bearer(&token)).await, open("ci"));
    // Nix and ccache send it as the password of anyone.
    assert_eq!(is(basic("anyone", &token)).await, open("ci"));
    for _ in 0..2 {
        assert_eq!(is(basic("alice", "secret")).await, open("alice"));
        assert_eq!(is(basic("alice", "wrong")).await, refused);
    }
    // A user's name is not a way around the password.
    assert_eq!(is(basic("alice", &token)).await, refused);
    for bad in [bearer("unknown"), basic("bob", "secret"), headers("Digest x"), headers("Bearer")] {
        assert_eq!(is(bad).await, refused);
    }
}
