use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cache_types::{Caller, Grant};
use tokio::sync::Semaphore;

use super::htpasswd::Htpasswd;
use super::verified::Verified;

const UNKNOWN: &str = "no such user, or another password";

/// Passwords that are checked at a time; more wait, so that guessing does not take the machine.
const MAX_CHECKS: usize = 2;

/// What a user of the htpasswd file may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRights {
    /// What is allowed.
    pub grants: Vec<Grant>,
    /// The tenant; empty for the default one.
    pub tenant: String,
}

/// The users of the htpasswd file.
#[derive(Debug)]
pub(super) struct Users {
    file: Htpasswd,
    callers: HashMap<String, Caller>,
    checks: Semaphore,
}

impl Users {
    /// `rights` are those of some users, `others` those of the rest.
    pub(super) fn new(file: Htpasswd, rights: &BTreeMap<String, UserRights>, others: &UserRights) -> Self {
        let caller = |user: &str| {
            let rights = rights.get(user).unwrap_or(others);
            (user.to_owned(), Caller::known(user, &rights.tenant, rights.grants.clone()))
        };
        let callers = file.users().map(caller).collect();
        Self { file, callers, checks: Semaphore::new(MAX_CHECKS) }
    }

    pub(super) fn has(&self, user: &str) -> bool {
        self.file.has(user)
    }

    fn verdict(&self, user: &str, password: &str) -> Caller {
        let known = self.file.verify(user, password).then(|| self.callers.get(user)).flatten();
        known.cloned().unwrap_or_else(|| Caller::rejected(UNKNOWN))
    }
}

/// Checks a password aside, and remembers the verdict.
pub(super) async fn check(users: Arc<Users>, verified: Arc<Verified>, (user, password): (String, String)) -> Caller {
    let Ok(_place) = users.checks.acquire().await else {
        return Caller::rejected(UNKNOWN);
    };
    let place = verified.place([&user, &password]);
    // Another call with the same password may have been before this one.
    if let Some(caller) = verified.get(&place) {
        return caller;
    }
    let checker = users.clone();
    match tokio::task::spawn_blocking(move || checker.verdict(&user, &password)).await {
        Ok(caller) => {
            verified.put(place, &caller, None);
            caller
        }
        Err(error) => {
            tracing::error!(%error, "checking a password failed");
            Caller::rejected("it could not be checked")
        }
    }
}
