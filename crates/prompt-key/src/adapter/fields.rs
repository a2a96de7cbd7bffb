use super::malformed;
use crate::json::Object;
use crate::{Json, Uncacheable};

/// The members of an object that an adapter has not taken yet.
pub(super) struct Fields(Object);

impl Fields {
    /// The members of an object; `what` names it when it is none.
    pub(super) fn of(value: Json, what: &str) -> Result<Self, Uncacheable> {
        match value {
            Json::Object(members) => Ok(Self(members)),
            _ => Err(malformed(format!("{what} is no object"))),
        }
    }

    /// Takes a member as it is, `null` included.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name)
    }

    /// Takes a member that holds something; `null` is as good as absent.
    pub(super) fn take_some(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a member that is an array; empty when it is absent or `null`.
    pub(super) fn take_array(&mut self, name: &str) -> Result<Vec<Json>, Uncacheable> {
        match self.take_some(name) {
            None => Ok(Vec::new()),
            Some(Json::Array(items)) => Ok(items),
            Some(_) => Err(malformed(format!("`{name}` is no array"))),
        }
    }

    /// Takes a member that is a string; `None` when it is absent or `null`.
    pub(super) fn take_string(&mut self, name: &str) -> Result<Option<String>, Uncacheable> {
        match self.take_some(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(format!("`{name}` is no string"))),
        }
    }

    /// The member, which stays.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// Puts a member in place of what was there.
    pub(super) fn set(&mut self, name: &str, value: Json) {
        self.0.insert(name.to_owned(), value);
    }

    /// Drops members that do not reach the model.
    pub(super) fn drop(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// Refuses members that refer to what the request does not hold.
    pub(super) fn refuse_outside(&self, names: &[&str]) -> Result<(), Uncacheable> {
        match names.iter().find(|name| self.holds(name)) {
            Some(name) => Err(Uncacheable::Outside((*name).to_owned())),
            None => Ok(()),
        }
    }

    /// Whether the member is there and not `null`.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// Gives two spellings of a member one name; both at once are refused.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Uncacheable> {
        let Some(value) = self.0.remove(from) else { return Ok(()) };
        match self.0.insert(to.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(malformed(format!("`{from}` and `{to}` are one field"))),
        }
    }

    /// What nobody took.
    pub(super) fn rest(self) -> Object {
        self.0
    }
}
