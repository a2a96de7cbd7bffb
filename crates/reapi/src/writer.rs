use cache_types::Caller;
use http::Extensions;

/// The name under which what a request writes is kept.
pub(crate) fn of(extensions: &Extensions) -> &str {
    extensions.get::<Caller>().map_or("", Caller::name)
}
