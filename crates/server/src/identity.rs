//! Who makes a call: the layer that gives each request its [`cache_types::Caller`].

mod layer;

pub(crate) use layer::Identify;
