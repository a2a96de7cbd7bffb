use std::convert::Infallible;
use std::time::Duration;

use http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;

/// The time a client gives its call in `grpc-timeout`; `None` when it names none or one that cannot be read.
///
/// Spec: gRPC over HTTP/2, Timeout: one to eight digits and a unit.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Gives a call up when its answer has not begun in time: DEADLINE_EXCEEDED.
pub(crate) async fn keep(
    limit: Option<Duration>,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let Some(limit) = limit else { return call.await };
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Ok(Status::deadline_exceeded("the time that the caller gave is over").into_http()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().expect("a header value"));
        of(&headers)
    }

    #[test]
    fn each_unit_is_read() {
        for (text, millis) in [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5), ("6000u", 6)] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    }

    #[test]
    fn what_is_no_timeout_is_none() {
        for text in ["", "1", "S", "123456789S", "-1S", "+1S", "1s", "1.5S", "0x1S", "1 S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_past_its_time_is_given_up() {
        let answer = keep(Some(Duration::from_secs(1)), std::future::pending()).await.expect("an answer");
        assert_eq!(answer.headers()["grpc-status"], "4");
        let answer = keep(Some(Duration::from_secs(1)), async { Ok(Response::new(Body::empty())) }).await;
        assert!(answer.expect("an answer").headers().get("grpc-status").is_none());
    }
}
