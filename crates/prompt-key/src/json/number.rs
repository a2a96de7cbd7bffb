use crate::Fault;

/// The largest integer that a double tells from its neighbours: 2^53 − 1.
pub(super) const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// From here on the canonical form has an exponent.
const EXPONENT_FROM: f64 = 1e21;

/// Digits that a decimal number may have and still be one spelling of one double.
const MAX_DIGITS: usize = 17;

/// The double that a token of JSON's grammar means, unless that would merge it with another number.
///
/// An integer beyond ±(2^53 − 1) is refused, and so is a number that overflows, that becomes zero, or whose digits the
/// double does not hold. Spec: prompt-key §1.
pub(super) fn read(token: &str) -> Result<f64, Fault> {
    let refused = || Fault::Number(token.to_owned());
    let number: f64 = token.parse().map_err(|_| refused())?;
    if !token.contains(['.', 'e', 'E']) {
        return if number.abs() <= MAX_INTEGER && is_exact(token, number) {
            Ok(number)
        } else {
            Err(Fault::Integer(token.to_owned()))
        };
    }
    if !number.is_finite() {
        return Err(refused());
    }
    // Its canonical form would be an integer that is refused.
    if number.abs() > MAX_INTEGER && number.abs() < EXPONENT_FROM {
        return Err(Fault::Integer(token.to_owned()));
    }
    let (digits, _) = decimal(token);
    let lost = (number == 0.0 && !digits.is_empty()) || digits.len() > MAX_DIGITS || number.abs() > MAX_INTEGER;
    if lost && !is_exact(token, number) {
        return Err(refused());
    }
    Ok(number)
}

/// Whether the shortest form of the double is the very number of the token.
fn is_exact(token: &str, number: f64) -> bool {
    decimal(token) == decimal(ryu_js::Buffer::new().format_finite(number))
}

/// Significant digits and the power of ten of the last one; no digits for zero.
fn decimal(token: &str) -> (String, i64) {
    let token = token.trim_start_matches('-');
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).unwrap_or(i64::MAX);
    let fraction_len = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return (String::new(), 0);
    }
    // An exponent that no number holds makes the number zero or infinite, which is refused before this matters.
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX);
    (kept.to_owned(), exponent.saturating_sub(fraction_len).saturating_add(dropped))
}
