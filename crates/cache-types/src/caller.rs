use std::sync::Arc;

use crate::{InstanceName, Role, Roles};

/// The tenant of callers whose credential names none.
const DEFAULT_TENANT: &str = "default";

/// The name of callers without a credential.
const ANONYMOUS: &str = "anonymous";

/// Roles in one instance and in those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The instance; the empty one stands for all.
    pub prefix: InstanceName,
    /// What is allowed there.
    pub roles: Roles,
}

/// Who makes a call, and what they may do. Cheap to clone.
///
/// It travels with each request as an extension, put there by the one who checked the credential; a request without one
/// is refused.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Box<str>,
    tenant: Box<str>,
    credential: Credential,
    grants: Box<[Grant]>,
}

/// What came with the request.
#[derive(Clone, Debug)]
enum Credential {
    Accepted,
    Absent,
    /// One that is not accepted, and why.
    Rejected(&'static str),
}

impl Caller {
    /// A caller with an accepted credential. `tenant` is the default one where it is empty.
    pub fn known(name: &str, tenant: &str, grants: Vec<Grant>) -> Self {
        let tenant = if tenant.is_empty() { DEFAULT_TENANT } else { tenant };
        Self::new(name, tenant, Credential::Accepted, grants)
    }

    /// A caller without a credential, who may do what is open to everyone.
    pub fn anonymous(grants: Vec<Grant>) -> Self {
        Self::new(ANONYMOUS, DEFAULT_TENANT, Credential::Absent, grants)
    }

    /// A caller whose credential is not accepted, for the reason given, who may do nothing: what is open to everyone is
    /// refused too, so that the fault is noticed.
    pub fn rejected(reason: &'static str) -> Self {
        Self::new(ANONYMOUS, DEFAULT_TENANT, Credential::Rejected(reason), Vec::new())
    }

    /// The caller of a server without authentication, who may do everything.
    pub fn local() -> Self {
        Self::anonymous(vec![Grant { prefix: InstanceName::default(), roles: Roles::all() }])
    }

    fn new(name: &str, tenant: &str, credential: Credential, grants: Vec<Grant>) -> Self {
        Self(Arc::new(Inner { name: name.into(), tenant: tenant.into(), credential, grants: grants.into() }))
    }

    /// The name that what this caller writes is kept under.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tenant, which the credential alone says.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// Whether no accepted credential came with the request.
    pub fn is_anonymous(&self) -> bool {
        !matches!(self.0.credential, Credential::Accepted)
    }

    /// What is allowed, and where.
    pub fn grants(&self) -> &[Grant] {
        &self.0.grants
    }

    /// Whether the role is held in this instance.
    pub fn may(&self, role: Role, instance: &InstanceName) -> bool {
        self.may_under(role, instance.as_str())
    }

    /// As [`Caller::may`], for a path of segments joined by `/` that need not be a valid instance name.
    pub fn may_under(&self, role: Role, path: &str) -> bool {
        self.0.grants.iter().any(|grant| grant.roles.contains(role) && covers(&grant.prefix, path))
    }

    /// Whether the role is held in any instance.
    pub fn may_anywhere(&self, role: Role) -> bool {
        self.0.grants.iter().any(|grant| grant.roles.contains(role))
    }

    /// Whether nothing at all is allowed.
    pub fn may_nothing(&self) -> bool {
        self.0.grants.is_empty()
    }

    /// Refuses a call that needs a role in this instance which the caller does not hold.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, role: Role, instance: &InstanceName) -> Result<(), Denied> {
        self.check_under(role, instance.as_str())
    }

    /// As [`Caller::check`], for a path of segments joined by `/` that need not be a valid instance name.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check_under(&self, role: Role, path: &str) -> Result<(), Denied> {
        if self.may_under(role, path) { Ok(()) } else { Err(self.denied(role)) }
    }

    /// As [`Caller::check`], for what belongs to no instance.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check_anywhere(&self, role: Role) -> Result<(), Denied> {
        if self.may_anywhere(role) { Ok(()) } else { Err(self.denied(role)) }
    }

    #[cold]
    fn denied(&self, role: Role) -> Denied {
        match self.0.credential {
            Credential::Accepted => Denied::Role { name: self.0.name.clone(), role },
            Credential::Absent => Denied::NoCredential,
            Credential::Rejected(reason) => Denied::BadCredential(reason),
        }
    }
}

/// Whether the path is the prefix or lies below it, whole segments alone counting.
fn covers(prefix: &InstanceName, path: &str) -> bool {
    let prefix = prefix.as_str();
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.as_bytes().first() == Some(&b'/'))
}

/// Why a caller was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential, and this is not open to everyone: UNAUTHENTICATED, 401.
    #[error("this needs a credential")]
    NoCredential,
    /// A credential that is not accepted, and why: UNAUTHENTICATED, 401.
    #[error("the credential is not accepted: {0}")]
    BadCredential(&'static str),
    /// A known caller who lacks the role: PERMISSION_DENIED, 403.
    #[error("{name} does not hold the role {role} here")]
    Role {
        /// Who.
        name: Box<str>,
        /// The role that is missing.
        role: Role,
    },
}

impl Denied {
    /// The values of `WWW-Authenticate` over HTTP; none where another credential is no remedy. Spec: H-10.
    pub fn challenges(&self) -> &'static [&'static str] {
        match self {
            Self::NoCredential => &["Basic realm=\"twofold\", charset=\"UTF-8\"", "Bearer realm=\"twofold\""],
            Self::BadCredential(_) => {
                &["Bearer realm=\"twofold\", error=\"invalid_token\"", "Basic realm=\"twofold\", charset=\"UTF-8\""]
            }
            Self::Role { .. } => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> InstanceName {
        InstanceName::parse(text).expect("a name")
    }

    fn grant(prefix: &str, roles: &[Role]) -> Grant {
        Grant { prefix: name(prefix), roles: roles.iter().copied().collect() }
    }

    #[test]
    fn a_prefix_covers_whole_segments_alone() {
        let caller = Caller::known("ci", "", vec![grant("team/a", &[Role::AcWrite]), grant("shared", &[Role::Read])]);
        for inside in ["team/a", "team/a/b", "team/a/b/c"] {
            assert!(caller.may(Role::AcWrite, &name(inside)) && caller.may(Role::Read, &name(inside)), "{inside}");
        }
        for outside in ["", "team", "team/ab", "team/b", "a", "other/team/a", "shared"] {
            assert!(!caller.may(Role::AcWrite, &name(outside)), "{outside}");
        }
        assert!(caller.may(Role::Read, &name("shared/x")) && !caller.may(Role::CasWrite, &name("team/a")));
        assert!(caller.may_anywhere(Role::AcWrite) && !caller.may_anywhere(Role::Admin));
        assert_eq!((caller.name(), caller.tenant()), ("ci", "default"));
    }

    #[test]
    fn refusals_tell_no_credential_a_bad_one_and_a_missing_role_apart() {
        let here = name("x");
        let known = Caller::known("ci", "acme", vec![grant("", &[Role::Read])]);
        assert_eq!(known.check(Role::Read, &here), Ok(()));
        let lacking = Denied::Role { name: "ci".into(), role: Role::CasWrite };
        assert_eq!(known.check(Role::CasWrite, &here), Err(lacking.clone()));
        assert!(lacking.challenges().is_empty());
        let anonymous = Caller::anonymous(vec![grant("x", &[Role::Read])]);
        assert_eq!(anonymous.check(Role::Read, &here), Ok(()));
        assert_eq!(anonymous.check(Role::CasWrite, &here), Err(Denied::NoCredential));
        let rejected = Caller::rejected("it has expired");
        assert_eq!(rejected.check(Role::Read, &here), Err(Denied::BadCredential("it has expired")));
        assert!(rejected.is_anonymous() && rejected.may_nothing() && !known.is_anonymous());
        for role in Role::ALL {
            assert_eq!(Caller::local().check(role, &here), Ok(()));
        }
    }
}
