use std::fmt;

use crate::{Component, FieldDigest, KeyDigest, PromptKey, ToolDigest};

/// How one key differs from another. Spec: prompt-key §9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What differs outside the messages, in the order of the components.
    pub components: Vec<ComponentDrift>,
    /// Links of the chain that both have, the root among them; 0 when the roots differ.
    pub common_prefix: usize,
    /// Length of the chain that is explained, the root among it.
    pub of: usize,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentDrift {
    /// The component.
    pub component: Component,
    /// What of it; `None` when the digest of the component says no more.
    pub part: Option<Part>,
}

/// A part of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A tool that both have, and the fields that differ.
    Tool {
        /// The tool's name.
        name: String,
        /// Its fields that differ, are new or are gone.
        fields: Vec<String>,
    },
    /// A tool that only the explained key has.
    NewTool(String),
    /// A tool that only the other key has.
    GoneTool(String),
    /// A system block by its index.
    SystemBlock(usize),
    /// A field by its name.
    Field(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool { name, fields } => write!(f, "tool {name}: {}", fields.join(", ")),
            Self::NewTool(name) => write!(f, "tool {name} is new"),
            Self::GoneTool(name) => write!(f, "tool {name} is gone"),
            Self::SystemBlock(index) => write!(f, "block {index}"),
            Self::Field(name) => write!(f, "field {name}"),
        }
    }
}

impl PromptKey {
    /// What differs between this key and `other`: components, their parts, and where the chains part.
    pub fn drift(&self, other: &Self) -> Drift {
        let mut components = Vec::new();
        for (component, digest) in self.components.iter() {
            if digest == other.components.get(component) {
                continue;
            }
            let parts = self.parts(other, component);
            if parts.is_empty() {
                components.push(ComponentDrift { component, part: None });
            }
            components.extend(parts.into_iter().map(|part| ComponentDrift { component, part: Some(part) }));
        }
        Drift { components, common_prefix: common_prefix(&self.chain, &other.chain), of: self.chain.len() }
    }

    fn parts(&self, other: &Self, component: Component) -> Vec<Part> {
        match component {
            Component::Tools => {
                let fields = changed(&self.tool_fields, &other.tool_fields).into_iter().map(Part::Field);
                fields.chain(tools(&self.tools, &other.tools)).collect()
            }
            Component::System => system(&self.system, &other.system),
            Component::Gen => changed(&self.generation, &other.generation).into_iter().map(Part::Field).collect(),
            Component::Seed if self.slot != other.slot => vec![Part::Field("slot".to_owned())],
            Component::Seed => vec![Part::Field("seed".to_owned())],
            Component::Ns | Component::Profile | Component::Api | Component::Model => Vec::new(),
        }
    }
}

fn common_prefix(a: &[KeyDigest], b: &[KeyDigest]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn system(ours: &[KeyDigest], theirs: &[KeyDigest]) -> Vec<Part> {
    let len = ours.len().max(theirs.len());
    (0..len).filter(|&index| ours.get(index) != theirs.get(index)).map(Part::SystemBlock).collect()
}

fn tools(ours: &[ToolDigest], theirs: &[ToolDigest]) -> Vec<Part> {
    let find = |tools: &[ToolDigest], name: &str| tools.iter().find(|tool| tool.name == name).cloned();
    let changed_or_new = ours.iter().filter_map(|tool| match find(theirs, &tool.name) {
        None => Some(Part::NewTool(tool.name.clone())),
        Some(other) if other.digest == tool.digest => None,
        Some(other) => Some(Part::Tool { name: tool.name.clone(), fields: changed(&tool.fields, &other.fields) }),
    });
    let gone = theirs.iter().filter(|tool| find(ours, &tool.name).is_none());
    changed_or_new.chain(gone.map(|tool| Part::GoneTool(tool.name.clone()))).collect()
}

/// Names of the fields that differ or that only one has, in order.
fn changed(ours: &[FieldDigest], theirs: &[FieldDigest]) -> Vec<String> {
    let only = |a: &[FieldDigest], b: &[FieldDigest]| -> Vec<String> {
        a.iter().filter(|field| !b.contains(field)).map(|field| field.name.clone()).collect()
    };
    let mut names = only(ours, theirs);
    names.extend(only(theirs, ours));
    names.sort();
    names.dedup();
    names
}
