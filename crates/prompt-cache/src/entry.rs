use bytes::{Buf, Bytes, BytesMut};
use prompt_key::{Components, FieldDigest, KeyDigest, PromptKey, PromptKeyId, ToolDigest};
use prost::Message;
use store::{Provenance, RecordKey, StoreError};

use crate::asked::Asked;
use crate::cache::Inner;
use crate::names::Names;
use crate::proto::{Entry, StoredField, StoredTool};

/// Reads the message that a record holds behind who wrote it; `None` when there is none or it is not readable.
pub(crate) async fn load<M: Message + Default>(inner: &Inner, name: &RecordKey) -> Result<Option<M>, StoreError> {
    let Some(mut bytes) = inner.records.get(name).await? else { return Ok(None) };
    if Provenance::decode(&mut bytes).is_none() {
        return Ok(None);
    }
    Ok(M::decode(bytes).ok())
}

/// Writes a message, and before it who wrote it.
pub(crate) async fn save(
    inner: &Inner,
    name: RecordKey,
    message: &impl Message,
    writer: &str,
) -> Result<(), StoreError> {
    let provenance = Provenance::now(writer);
    let mut record = BytesMut::with_capacity(provenance.encoded_len() + message.encoded_len());
    provenance.encode(&mut record);
    record.extend_from_slice(&message.encode_to_vec());
    inner.records.put(name, record.freeze()).await
}

/// Reads a record that names an entry.
pub(crate) async fn load_pointer(inner: &Inner, name: &RecordKey) -> Result<Option<PromptKeyId>, StoreError> {
    let Some(mut bytes) = inner.records.get(name).await? else { return Ok(None) };
    if Provenance::decode(&mut bytes).is_none() {
        return Ok(None);
    }
    Ok(crate::names::pointed(bytes.chunk()))
}

/// Writes a record that names an entry.
pub(crate) async fn save_pointer(
    inner: &Inner,
    name: RecordKey,
    key: &PromptKeyId,
    writer: &str,
) -> Result<(), StoreError> {
    let provenance = Provenance::now(writer);
    let mut record = BytesMut::with_capacity(provenance.encoded_len() + 32);
    provenance.encode(&mut record);
    record.extend_from_slice(&crate::names::pointer(key));
    inner.records.put(name, record.freeze()).await
}

/// The entry of a key.
pub(crate) async fn find(inner: &Inner, names: &Names, key: &PromptKeyId) -> Result<Option<Entry>, StoreError> {
    let entry: Option<Entry> = load(inner, &names.entry(key)).await?;
    // An entry says its own key; one that says another is damaged or not ours.
    Ok(entry.filter(|entry| entry.result.as_ref().is_some_and(|result| result.key == key.to_string())))
}

impl Entry {
    /// The digests of a key, for later explanations.
    pub(crate) fn describe(&mut self, asked: &Asked) {
        self.of = u32::try_from(asked.chain.len()).unwrap_or(u32::MAX);
        let Some(key) = &asked.key else { return };
        let field = |field: &FieldDigest| StoredField { name: field.name.clone(), digest: bytes(&field.digest) };
        self.components = key.components.iter().map(|(_, digest)| bytes(digest)).collect();
        let tool = |tool: &ToolDigest| StoredTool {
            name: tool.name.clone(),
            digest: bytes(&tool.digest),
            fields: tool.fields.iter().map(field).collect(),
        };
        self.tools = key.tools.iter().map(tool).collect();
        self.tool_fields = key.tool_fields.iter().map(field).collect();
        self.system = key.system.iter().map(bytes).collect();
        self.generation = key.generation.iter().map(field).collect();
    }

    /// The digests of the entry's key, without its chain; `None` when only keys were recorded.
    pub(crate) fn key(&self) -> Option<PromptKey> {
        let components: Vec<KeyDigest> = self.components.iter().map(digest).collect::<Option<_>>()?;
        let field =
            |field: &StoredField| Some(FieldDigest { name: field.name.clone(), digest: digest(&field.digest)? });
        let fields = |fields: &[StoredField]| fields.iter().map(field).collect::<Option<Vec<_>>>();
        let tool = |tool: &StoredTool| {
            Some(ToolDigest { name: tool.name.clone(), digest: digest(&tool.digest)?, fields: fields(&tool.fields)? })
        };
        let result = self.result.as_ref()?;
        let none = prompt_key::hash("messages", []);
        Some(PromptKey {
            components: Components::from_digests(components.try_into().ok()?),
            chain: Vec::new(),
            first_turn: None,
            messages: none,
            opening: None,
            model: result.model.clone(),
            slot: result.slot,
            tools: self.tools.iter().map(tool).collect::<Option<_>>()?,
            tool_fields: fields(&self.tool_fields)?,
            system: self.system.iter().map(digest).collect::<Option<_>>()?,
            generation: fields(&self.generation)?,
        })
    }
}

fn bytes(digest: &KeyDigest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

fn digest(bytes: &Bytes) -> Option<KeyDigest> {
    bytes.as_ref().try_into().ok().map(KeyDigest::from_bytes)
}
