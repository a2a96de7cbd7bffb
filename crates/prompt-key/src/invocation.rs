use std::collections::BTreeMap;

use crate::Json;
use crate::json::Object;

/// A model invocation in one form for all APIs, normalised: what an adapter makes of a request and what is hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// The resolved model snapshot.
    pub model: String,
    /// The speed tier, `standard` when none was asked for.
    pub speed: String,
    /// The tool choice; `None` when the request has none.
    pub tool_choice: Option<Json>,
    /// Other fields that say how tools are used, such as `parallel_tool_calls`.
    pub tool_fields: BTreeMap<String, Json>,
    /// The tools, sorted by name, no name twice.
    pub tools: Vec<Tool>,
    /// The system blocks, in order.
    pub system: Vec<Json>,
    /// The messages, a link for each content block.
    pub links: Vec<Link>,
    /// Every field that is nowhere else.
    pub generation: Object,
    /// The provider's seed, `null` when there is none.
    pub seed: Json,
    /// The sample slot.
    pub slot: u64,
}

/// A tool that the client executes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its whole definition, without cache markers.
    pub definition: Json,
}

/// One content block in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The role of the message that holds the block; `null` for items that have none.
    pub role: Json,
    /// The block.
    pub block: Json,
    /// What else the message says.
    pub message: Object,
    /// Whether the block continues the message of the link before it, where the API does not say that it makes no
    /// difference.
    pub continues: bool,
}

impl Link {
    /// Whether a user wrote the block.
    pub fn is_user(&self) -> bool {
        self.role.as_str() == Some("user")
    }
}

impl Invocation {
    /// How many links the first user turn ends after; `None` when there is no user turn. Spec: prompt-key §2.
    pub fn first_turn_end(&self) -> Option<usize> {
        let start = self.links.iter().position(Link::is_user)?;
        let len = self.links.iter().skip(start).take_while(|link| link.is_user()).count();
        Some(start + len)
    }
}
