//! Puts a NAR together again from its parts, byte for byte.

mod plan;
mod stream;

pub(crate) use plan::{Plan, PlanError, listing, load};
pub(crate) use stream::{ahead, is_sound, packed, plain};

#[cfg(test)]
mod tests;
