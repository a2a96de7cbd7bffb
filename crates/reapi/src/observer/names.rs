use std::collections::HashMap;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// What stands for every name beyond the bound.
pub const OTHER: &str = "other";

/// The number of [`OTHER`].
pub(super) const OTHER_NUMBER: u16 = 0;

/// A longer name is not told apart, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Numbers for the first so many names; all others are one.
#[derive(Debug)]
pub(super) struct Names {
    max: u16,
    known: RwLock<HashMap<Box<str>, u16, RandomState>>,
}

impl Names {
    /// Tells `max` names apart.
    pub(super) fn new(max: u16) -> Self {
        Self { max, known: RwLock::default() }
    }

    /// The number of a name; a name met for the first time gets one while there are any.
    pub(super) fn number(&self, name: &str) -> u16 {
        if name.len() > MAX_NAME_BYTES || name == OTHER {
            return OTHER_NUMBER;
        }
        let known = self.known.read();
        if let Some(number) = known.get(name) {
            return *number;
        }
        if known.len() >= usize::from(self.max) {
            return OTHER_NUMBER;
        }
        drop(known);
        let mut known = self.known.write();
        match u16::try_from(known.len() + 1) {
            Ok(next) if next <= self.max => *known.entry(name.into()).or_insert(next),
            _ => known.get(name).copied().unwrap_or(OTHER_NUMBER),
        }
    }

    /// The names by their numbers.
    pub(super) fn list(&self) -> Vec<Box<str>> {
        let known = self.known.read();
        let mut list: Vec<Box<str>> = vec![OTHER.into(); known.len() + 1];
        for (name, number) in known.iter() {
            if let Some(place) = list.get_mut(usize::from(*number)) {
                place.clone_from(name);
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_number_and_those_beyond_the_bound_are_other() {
        let names = Names::new(2);
        assert_eq!((names.number("a"), names.number("b"), names.number("a")), (1, 2, 1));
        assert_eq!((names.number("c"), names.number(OTHER), names.number(&"x".repeat(200))), (0, 0, 0));
        assert_eq!(names.list(), ["other", "a", "b"].map(Box::from));
    }
}
