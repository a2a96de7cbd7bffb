use cache_types::{Grant, InstanceName, InstanceNameError, Role, Roles};

/// Reads roles as people write them: `read`, or `ac-write@team/a` for one instance and those below it.
///
/// # Errors
/// [`GrantError`] names the first that is none.
pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Vec<Grant>, GrantError> {
    let mut held: Vec<(InstanceName, Vec<Role>)> = Vec::new();
    for item in items {
        let (name, prefix) = item.split_once('@').unwrap_or((item, ""));
        let role = Role::from_name(name).ok_or_else(|| GrantError::Role(name.to_owned()))?;
        let prefix =
            InstanceName::parse(prefix).map_err(|source| GrantError::Instance { text: prefix.to_owned(), source })?;
        match held.iter_mut().find(|(known, _)| *known == prefix) {
            Some((_, roles)) => roles.push(role),
            None => held.push((prefix, vec![role])),
        }
    }
    let grants = held.into_iter().map(|(prefix, roles)| Grant { prefix, roles: roles.into_iter().collect() });
    Ok(grants.collect())
}

/// Roles as [`parse`] reads them.
pub fn display(grants: &[Grant]) -> Vec<String> {
    let one = |grant: &Grant, role: Role| match grant.prefix.as_str() {
        "" => role.to_string(),
        prefix => format!("{role}@{prefix}"),
    };
    grants.iter().flat_map(|grant| Roles::iter(grant.roles).map(move |role| one(grant, role))).collect()
}

/// Why roles were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No such role.
    #[error("{0:?} is no role; write read, cas-write, ac-write, prompt-write, nix-push or admin, or ROLE@INSTANCE")]
    Role(String),
    /// No such instance.
    #[error("{text:?} is no instance: {source}")]
    Instance {
        /// What was written.
        text: String,
        /// The cause.
        source: InstanceNameError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_and_those_of_one_instance_are_together() {
        let grants = parse(["read", "ac-write@team/a", "cas-write@team/a"]).expect("roles");
        assert_eq!(grants.len(), 2);
        assert_eq!(display(&grants), ["read", "read@team/a", "cas-write@team/a", "ac-write@team/a"]);
        let shown = display(&grants);
        assert_eq!(parse(shown.iter().map(String::as_str)), Ok(grants));
        assert!(matches!(parse(["write"]), Err(GrantError::Role(_))));
        assert!(matches!(parse(["read@a//b"]), Err(GrantError::Instance { .. })));
        assert_eq!(parse([]), Ok(Vec::new()));
    }
}
