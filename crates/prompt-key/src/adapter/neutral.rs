use super::fields::Fields;
use super::{anthropic, malformed};
use crate::{Invocation, Options, Uncacheable};

/// Reads the neutral form: `model` (a snapshot), `speed`, `system`, `tools`, `tool_choice`, `messages`, `seed`, `slot`, and
/// generation options under any other name.
pub(super) fn read(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    fields.drop(&["stream"]);
    let slot = slot(&mut fields, options)?;
    Ok(Invocation { slot, ..anthropic::invocation(fields, options)? })
}

/// The slot of the request or of the caller; two that differ are refused.
fn slot(fields: &mut Fields, options: &Options) -> Result<u64, Uncacheable> {
    let Some(slot) = fields.take_some("slot") else { return Ok(options.slot) };
    let slot = slot.as_u64().ok_or_else(|| malformed("`slot` is no whole number"))?;
    if options.slot != 0 && options.slot != slot {
        return Err(malformed("the request names one slot and the caller another"));
    }
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use crate::{Api, Options, key};

    fn of(request: &str, slot: u64) -> Result<crate::PromptKey, crate::Uncacheable> {
        key(request.as_bytes(), &Options { slot, ..Options::new(Api::Neutral) })
    }

    #[test]
    fn the_slot_is_in_the_request_or_beside_it() {
        let inside = of(r#"{"model":"m","slot":3,"messages":[]}"#, 0).expect("a key");
        let beside = of(r#"{"model":"m","messages":[]}"#, 3).expect("a key");
        assert_eq!(inside.id(), beside.id());
        assert_eq!(of(r#"{"model":"m","slot":3,"messages":[]}"#, 3).expect("a key").id(), inside.id());
        assert!(of(r#"{"model":"m","slot":3,"messages":[]}"#, 4).is_err());
        assert!(of(r#"{"model":"m","slot":-1,"messages":[]}"#, 0).is_err());
    }
}
