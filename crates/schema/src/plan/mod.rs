//! A schema compiled to what the scanner can decide by itself.
//!
//! Everything outside the subset becomes [`Node::Unsure`]: a value that meets it goes to the reference validator. Where
//! the subset is decided, it must never accept what the reference refuses; it may leave valid values undecided. So a rule
//! may be stricter than its keyword, and never laxer.
//!
//! - `rules`: the rules, and what satisfies them;
//! - `compile`: from a schema's keywords to rules.

mod compile;
mod rules;

pub(crate) use rules::{ArrayRule, Hint, Node, ObjectRule, Property, Rules, TextRule, kind};

use serde_json::Value;

use crate::Fields;
use compile::Compiler;

/// The plan of a whole schema, which also marks the fields to find at the top level.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Rules,
    /// Whether a document that passes the rules is certainly valid.
    pub(crate) decides: bool,
}

impl Plan {
    /// `None` stands for "any JSON".
    pub(crate) fn compile(schema: Option<&Value>, fields: &Fields) -> Plan {
        let node = match schema {
            None => Node::Any,
            Some(schema) => Compiler::new(schema).map_or(Node::Unsure, |mut compiler| compiler.root()),
        };
        let (mut root, decides) = match node {
            Node::Any => (Rules::default(), true),
            Node::Unsure => (Rules::default(), false),
            // The compiler has just made it, and kept no other reference to it.
            Node::Rules(rules) => (std::sync::Arc::unwrap_or_clone(rules), true),
        };
        if let Some(key) = &fields.key {
            let at = root.object.property(key);
            root.object.properties[at].is_key = true;
        }
        if let Some(id) = &fields.id {
            let at = root.object.property(id);
            root.object.properties[at].is_id = true;
        }
        Plan { root, decides }
    }
}
