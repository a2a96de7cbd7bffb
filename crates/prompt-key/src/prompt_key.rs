use std::fmt;

use crate::{KeyDigest, PromptKeyId, hash};

/// A component of the key, in the order of the specification. Spec: prompt-key §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Tenant and namespace.
    Ns,
    /// Normaliser profile.
    Profile,
    /// API family, version and beta flags.
    Api,
    /// Model snapshot and speed.
    Model,
    /// Tools and how they are chosen.
    Tools,
    /// System blocks.
    System,
    /// Every remaining field.
    Gen,
    /// Provider seed and sample slot.
    Seed,
}

impl Component {
    /// All eight, in order.
    pub const ALL: [Self; 8] =
        [Self::Ns, Self::Profile, Self::Api, Self::Model, Self::Tools, Self::System, Self::Gen, Self::Seed];

    /// The name in answers and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Profile => "profile",
            Self::Api => "api",
            Self::Model => "model",
            Self::Tools => "tools",
            Self::System => "system",
            Self::Gen => "gen",
            Self::Seed => "seed",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digests of the eight components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components(pub(crate) [KeyDigest; 8]);

impl Components {
    /// The digests in the order of [`Component::ALL`].
    pub fn from_digests(digests: [KeyDigest; 8]) -> Self {
        Self(digests)
    }

    /// The digest of one.
    pub fn get(&self, component: Component) -> &KeyDigest {
        let [ns, profile, api, model, tools, system, generation, seed] = &self.0;
        match component {
            Component::Ns => ns,
            Component::Profile => profile,
            Component::Api => api,
            Component::Model => model,
            Component::Tools => tools,
            Component::System => system,
            Component::Gen => generation,
            Component::Seed => seed,
        }
    }

    /// Each component with its digest, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &KeyDigest)> {
        Component::ALL.into_iter().zip(&self.0)
    }
}

/// The digest of one field of a tool or of the generation options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDigest {
    /// The field's name.
    pub name: String,
    /// The digest of its canonical value.
    pub digest: KeyDigest,
}

/// The digest of one tool and of each of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDigest {
    /// The tool's name.
    pub name: String,
    /// The digest that goes into the component.
    pub digest: KeyDigest,
    /// The fields of its definition, for explanations.
    pub fields: Vec<FieldDigest>,
}

/// The key of one invocation, with the digests that explain a miss. It holds no prompt text but names of tools and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptKey {
    /// The eight components.
    pub components: Components,
    /// The chain from the root on; one longer than there are content blocks.
    pub chain: Vec<KeyDigest>,
    /// The link at the end of the first user turn, by its place in `chain`; `None` when there is no user turn.
    pub first_turn: Option<usize>,
    /// The messages alone, whatever the other components are: finds the entry that a key drifted from.
    pub messages: KeyDigest,
    /// The messages up to the end of the first user turn alone.
    pub opening: Option<KeyDigest>,
    /// The resolved model snapshot.
    pub model: String,
    /// The sample slot.
    pub slot: u64,
    /// Each tool, sorted by name.
    pub tools: Vec<ToolDigest>,
    /// Other fields of the `tools` component, the tool choice among them.
    pub tool_fields: Vec<FieldDigest>,
    /// Each system block, in order.
    pub system: Vec<KeyDigest>,
    /// Each field of the `gen` component.
    pub generation: Vec<FieldDigest>,
}

impl PromptKey {
    /// The key itself.
    pub fn id(&self) -> PromptKeyId {
        let last = self.chain.last().unwrap_or(self.components.get(Component::Ns));
        call(last, &self.components)
    }

    /// The key of the task: the first user turn in a repository; `None` when there is no user turn.
    pub fn task_id(&self, repo: &str) -> Option<PromptKeyId> {
        let turn = self.chain.get(self.first_turn?)?;
        Some(task(turn, &self.components, repo))
    }
}

/// The key at a link of a chain.
pub(crate) fn call(link: &KeyDigest, components: &Components) -> PromptKeyId {
    let parts = [link, components.get(Component::Gen), components.get(Component::Seed)];
    PromptKeyId(hash("call", parts.map(|part| part.as_bytes().as_slice())))
}

fn task(link: &KeyDigest, components: &Components, repo: &str) -> PromptKeyId {
    let parts = [link, components.get(Component::Gen), components.get(Component::Seed)];
    let parts = parts.into_iter().map(|part| part.as_bytes().as_slice());
    PromptKeyId(hash("task", parts.chain([repo.as_bytes()])))
}
