/// Why a request has no key. It is passed through and counted. Spec: prompt-key §0, principle 5.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncacheable {
    /// The bytes are no strict JSON.
    #[error("{fault} (at byte {at})")]
    Json {
        /// What is wrong.
        fault: Fault,
        /// Where it was seen, in bytes from the start.
        at: usize,
    },
    /// The request has not the shape of its API.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// The provider reads state that the request does not hold.
    #[error("`{0}` refers to state outside the request")]
    Outside(String),
    /// A tool that the provider runs, or a typed tool that is not known to be run by the client.
    #[error("tool type `{0}` is not known to be executed by the client")]
    ServerTool(String),
    /// Two tools of one name.
    #[error("two tools are called `{0}`")]
    DuplicateTool(String),
    /// A field whose effect cannot be replayed.
    #[error("`{0}` cannot be replayed")]
    NotReplayable(String),
    /// The model is a moving alias and the caller asked for snapshots only.
    #[error("`{0}` is an alias of a model, and aliases are refused here")]
    Alias(String),
    /// An opt-in rule does not fit this request.
    #[error("rule {rule}: {why}")]
    Rule {
        /// The rule's name.
        rule: &'static str,
        /// What does not fit.
        why: String,
    },
}

impl Uncacheable {
    /// The reason for machines: a word, and after a colon what it is about.
    pub fn reason(&self) -> String {
        match self {
            Self::Json { fault, .. } => fault.reason(),
            Self::Malformed(_) => "malformed_request".to_owned(),
            Self::Outside(field) => format!("external_state:{field}"),
            Self::ServerTool(kind) => format!("server_or_typed_tool:{kind}"),
            Self::DuplicateTool(name) => format!("duplicate_tool:{name}"),
            Self::NotReplayable(field) => format!("not_replayable:{field}"),
            Self::Alias(model) => format!("model_alias:{model}"),
            Self::Rule { rule, .. } => format!("rule:{rule}"),
        }
    }
}

impl Fault {
    fn reason(&self) -> String {
        match self {
            Self::DuplicateMember(name) => format!("duplicate_key:{name}"),
            Self::Integer(_) => "non_ijson_integer".to_owned(),
            Self::Number(_) => "non_ijson_number".to_owned(),
            Self::NotANumber(_) => "non_finite_number".to_owned(),
            Self::LoneSurrogate => "lone_surrogate".to_owned(),
            Self::Utf8 => "invalid_utf8".to_owned(),
            Self::TooDeep(_) => "too_deep".to_owned(),
            Self::Syntax(_) => "invalid_json".to_owned(),
        }
    }
}

/// What makes bytes no strict JSON. Spec: prompt-key §1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A member name that its object has already.
    #[error("duplicate member `{0}`")]
    DuplicateMember(String),
    /// An integer that a double does not hold exactly.
    #[error("integer beyond 2^53 - 1: {0}")]
    Integer(String),
    /// A number that a double does not hold, or not to all its digits.
    #[error("number out of the range or precision of a double: {0}")]
    Number(String),
    /// `NaN` or `Infinity`, which JSON has not.
    #[error("{0} is no JSON number")]
    NotANumber(&'static str),
    /// Half of a surrogate pair.
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    /// Bytes that are no UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// Nested too deeply.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// Not the grammar of RFC 8259.
    #[error("not JSON: {0}")]
    Syntax(&'static str),
}
