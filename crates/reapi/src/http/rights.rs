use cache_types::Role;
use http::request::Parts;

use super::refusal::Refusal;
use super::route::Route;
use super::turborepo;
use crate::access;

/// Refuses a request whose caller may not do what it asks. What is not checked against a digest needs the right to write
/// action results.
pub(super) fn check(route: &Route, head: &Parts) -> Result<(), Refusal> {
    if matches!(route, Route::Status | Route::Health) {
        return Ok(());
    }
    let caller = access::caller(&head.extensions)?;
    Ok(match route {
        Route::Cas { instance, .. } => caller.check(role(head, Role::CasWrite), instance),
        Route::Action { instance, .. } => caller.check(role(head, Role::AcWrite), instance),
        Route::Value(key) => caller.check_under(role(head, Role::AcWrite), key.instance_path()),
        // Every collection is there, so those above a caller's own tell nothing.
        Route::WebDav { is_collection: true, .. } => caller.check_anywhere(role(head, Role::AcWrite)),
        Route::WebDav { key, .. } => caller.check_under(role(head, Role::AcWrite), key.instance_path()),
        Route::Artifact { .. } => caller.check_under(role(head, Role::AcWrite), &turborepo::team(head)?),
        Route::Artifacts | Route::ArtifactEvents => caller.check_under(Role::Read, &turborepo::team(head)?),
        Route::ArtifactStatus => caller.check_anywhere(Role::Read),
        Route::Status | Route::Health => Ok(()),
    }?)
}

/// The role that a method needs.
fn role(head: &Parts, write: Role) -> Role {
    match head.method.as_str() {
        "PUT" | "DELETE" | "MKCOL" | "PATCH" => write,
        _ => Role::Read,
    }
}

#[cfg(test)]
mod tests {
    use cache_types::{Caller, Grant, InstanceName, Roles};
    use http::Request;

    use super::*;
    use crate::Settings;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn allowed(method: &str, path: &str, prefix: &str, roles: &[Role]) -> bool {
        let prefix = InstanceName::parse(prefix).expect("a name");
        let roles: Roles = roles.iter().copied().collect();
        let caller = Caller::known("c", "", vec![Grant { prefix, roles }]);
        let request = Request::builder().method(method).uri(path).extension(caller).body(()).expect("a request");
        let (head, ()) = request.into_parts();
        let route = Route::parse(head.uri.path(), &Settings::default()).expect("a route");
        check(&route, &head).is_ok()
    }

    #[test]
    fn the_instance_is_what_each_client_puts_in_its_path() {
        let forty = &HEX[..40];
        let inside = [
            format!("/team/a/cas/{HEX}"),
            format!("/team/a/ac/{HEX}"),
            format!("/team/a/{forty}"),
            format!("/team/a/{}/{}", &forty[..2], &forty[2..]),
            "/webdav/team/a/k".to_owned(),
            "/gradle/team/a/k".to_owned(),
            format!("/v8/artifacts/{forty}?slug=team/a"),
        ];
        for path in &inside {
            let write = if path.contains("/cas/") { Role::CasWrite } else { Role::AcWrite };
            for (method, role) in [("GET", Role::Read), ("HEAD", Role::Read), ("PUT", write), ("DELETE", write)] {
                assert!(allowed(method, path, "team/a", &[role]), "{method} {path}");
                assert!(allowed(method, path, "", &[role]), "{method} {path}");
                assert!(!allowed(method, path, "team/b", &[role]), "{method} {path}");
                let others = Role::ALL.map(|other| if other == role { Role::Read } else { other });
                assert_eq!(allowed(method, path, "team/a", &others), role == Role::Read, "{method} {path}");
            }
        }
    }

    #[test]
    fn paths_without_an_instance_need_a_grant_for_all() {
        for (path, prefix, is_allowed) in [("/v1/cache/k", "team", false), ("/v1/cache/k", "", true)] {
            assert_eq!(allowed("PUT", path, prefix, &[Role::AcWrite]), is_allowed);
        }
        assert!(allowed("PROPFIND", "/webdav/", "team", &[Role::Read]));
        assert!(allowed("MKCOL", "/webdav/other/", "team", &[Role::AcWrite]));
        assert!(!allowed("MKCOL", "/webdav/other/", "team", &[Role::CasWrite]));
        assert!(allowed("POST", "/v8/artifacts?slug=team", "team", &[Role::Read]));
        assert!(!allowed("POST", "/v8/artifacts", "team", &[Role::Read]));
    }
}
