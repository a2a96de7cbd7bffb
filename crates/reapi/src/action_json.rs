//! Action results in the JSON form of protobuf, as moon and people send them. Spec: H-22.

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::proto::{self, re};

const NAME: &str = "build.bazel.remote.execution.v2.ActionResult";

/// Why a text is no action result, or an action result has no such text.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not of this message.
    #[error("not an ActionResult in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// What JSON can say and the message cannot hold.
    #[error("not an ActionResult")]
    Message(#[from] prost::DecodeError),
}

/// Reads and writes action results as JSON: bytes as base64, 64-bit numbers as text, times as RFC 3339. Fields that are
/// not known are passed over.
pub struct ActionJson {
    descriptor: MessageDescriptor,
}

impl Default for ActionJson {
    fn default() -> Self {
        const BUILT_IN: &str = "the descriptors are compiled in";
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect(BUILT_IN);
        Self { descriptor: pool.get_message_by_name(NAME).expect(BUILT_IN) }
    }
}

impl ActionJson {
    /// Reads one action result.
    ///
    /// # Errors
    /// Any [`JsonError`].
    pub fn decode(&self, json: &[u8]) -> Result<re::ActionResult, JsonError> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let message = DynamicMessage::deserialize_with_options(self.descriptor.clone(), &mut reader, &options)?;
        reader.end()?;
        Ok(re::ActionResult::decode(message.encode_to_vec().as_slice())?)
    }

    /// Writes one action result, without the metadata of kinds that only their writer knows.
    ///
    /// # Errors
    /// [`JsonError::Json`] for a time that has no date.
    pub fn encode(&self, mut result: re::ActionResult) -> Result<Vec<u8>, JsonError> {
        if let Some(metadata) = &mut result.execution_metadata {
            metadata.auxiliary_metadata.clear();
        }
        let message = DynamicMessage::decode(self.descriptor.clone(), result.encode_to_vec().as_slice())?;
        let mut writer = serde_json::Serializer::new(Vec::new());
        message.serialize_with_options(&mut writer, &SerializeOptions::new())?;
        Ok(writer.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(size_bytes: i64) -> Option<re::Digest> {
        Some(re::Digest { hash: "e3b0".to_owned(), size_bytes })
    }

    #[test]
    fn the_text_is_that_of_protobuf() {
        let metadata = re::ExecutedActionMetadata {
            worker: "w".to_owned(),
            queued_timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
            auxiliary_metadata: vec![prost_types::Any { type_url: "x/unknown".to_owned(), value: vec![1] }],
            ..Default::default()
        };
        let file =
            re::OutputFile { path: "a".to_owned(), digest: digest(1 << 40), is_executable: true, ..Default::default() };
        let result = re::ActionResult {
            output_files: vec![file],
            exit_code: 3,
            stdout_raw: b"\xff\xfe".as_slice().into(),
            execution_metadata: Some(metadata),
            ..Default::default()
        };
        let json = ActionJson::default();
        let text: serde_json::Value =
            serde_json::from_slice(&json.encode(result.clone()).expect("JSON")).expect("JSON");
        let expected = serde_json::json!({
            "outputFiles": [{ "path": "a", "digest": { "hash": "e3b0", "sizeBytes": "1099511627776" }, "isExecutable": true }],
            "exitCode": 3,
            "stdoutRaw": "//4=",
            "executionMetadata": { "worker": "w", "queuedTimestamp": "2023-11-14T22:13:20.005Z" },
        });
        assert_eq!(text, expected);
        let mut back = json.decode(text.to_string().as_bytes()).expect("an ActionResult");
        back.execution_metadata.as_mut().expect("there").auxiliary_metadata =
            result.execution_metadata.as_ref().expect("there").auxiliary_metadata.clone();
        assert_eq!(back, result);
    }

    #[test]
    fn other_spellings_are_read_and_other_texts_refused() {
        let json = ActionJson::default();
        let text = br#"{"output_files":[{"path":"a","digest":{"hash":"e3b0","sizeBytes":7}}],"exitCode":"2","news":{"a":[1]}}"#;
        let read = json.decode(text).expect("an ActionResult");
        assert_eq!((read.output_files[0].digest.clone(), read.exit_code), (digest(7), 2));
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let nested = [br#"{"news":"#.as_slice(), &deep, b"}"].concat();
        assert!(json.decode(&nested).is_ok(), "what is passed over is not looked into");
        let others: [&[u8]; 8] = [
            b"",
            b"[]",
            b"{",
            b"{} {}",
            br#"{"exitCode":"x"}"#,
            br#"{"outputFiles":[{"digest":{"sizeBytes":"99999999999999999999"}}]}"#,
            br#"{"stdoutRaw":"???"}"#,
            &deep,
        ];
        for other in others {
            assert!(json.decode(other).is_err(), "{:?}", String::from_utf8_lossy(&other[..other.len().min(60)]));
        }
    }

    proptest! {
        #[test]
        fn results_read_back(
            files in proptest::collection::vec((".{0,20}", any::<i64>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..4),
            exit_code in any::<i32>(),
            seconds in -62_135_596_800i64..=253_402_300_799,
            nanos in 0i32..1_000_000_000,
        ) {
            let files = files.into_iter().map(|(path, size, is_executable, contents)| re::OutputFile {
                path,
                digest: digest(size),
                is_executable,
                contents: contents.into(),
                ..Default::default()
            });
            let result = re::ActionResult {
                output_files: files.collect(),
                exit_code,
                execution_metadata: Some(re::ExecutedActionMetadata {
                    worker_start_timestamp: Some(prost_types::Timestamp { seconds, nanos }),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let json = ActionJson::default();
            let text = json.encode(result.clone()).expect("JSON");
            prop_assert_eq!(json.decode(&text).expect("an ActionResult"), result);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[{}\\[\\]\":,a-zA-Z0-9]{0,80}") {
            let json = ActionJson::default();
            if let Ok(result) = json.decode(text.as_bytes()) {
                prop_assert!(json.encode(result).is_ok());
            }
        }
    }
}
