use std::fmt;

/// What a caller may be allowed to do. Every role brings [`Role::Read`] with it: who may write may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Read blobs, action results and values; ask what is there.
    Read = 1,
    /// Store blobs, which are checked against their digests.
    CasWrite = 2,
    /// Store action results, and the values of clients with keys of their own: nothing proves those.
    AcWrite = 4,
    /// Record prompt results.
    PromptWrite = 8,
    /// Push into Nix caches.
    NixPush = 16,
    /// Purge, collect, and look at the server itself.
    Admin = 32,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::CasWrite, Self::AcWrite, Self::PromptWrite, Self::NixPush, Self::Admin];

    /// The name in configurations and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::CasWrite => "cas-write",
            Self::AcWrite => "ac-write",
            Self::PromptWrite => "prompt-write",
            Self::NixPush => "nix-push",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Every role there is.
    pub fn all() -> Self {
        Role::ALL.into_iter().collect()
    }

    /// Whether the role is among them.
    pub fn contains(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }

    /// The roles, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        let mut set = roles.into_iter().fold(0, |set, role| set | role as u8);
        if set != 0 {
            set |= Role::Read as u8;
        }
        Self(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_every_role_brings_reading() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            let set: Roles = [role].into_iter().collect();
            assert!(set.contains(role) && set.contains(Role::Read));
            assert_eq!(set.iter().count(), if role == Role::Read { 1 } else { 2 });
        }
        assert!(Roles::all().iter().eq(Role::ALL));
        assert_eq!(Roles::default().iter().count(), 0);
        assert_eq!(Role::from_name("Read"), None);
    }
}
