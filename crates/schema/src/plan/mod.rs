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

use std::sync::Arc;

use serde_json::Value;

use crate::Fields;
use compile::Compiler;

/// The plan of a whole schema, which also marks the fields to find at the top level.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Arc<Rules>,
    /// Whether a document that passes the rules is certainly valid.
    pub(crate) decides: bool,
    /// How many of the root's properties the schema names; those behind them are fields to find.
    listed: usize,
    fields: Fields,
}

impl Plan {
    /// `None` stands for "any JSON".
    pub(crate) fn compile(schema: Option<&Value>, fields: &Fields) -> Plan {
        let node = match schema {
            None => Node::Any,
            Some(schema) => Compiler::new(schema).map_or(Node::Unsure, |mut compiler| compiler.root()),
        };
        let (root, decides) = match node {
            Node::Any => (Arc::default(), true),
            Node::Unsure => (Arc::default(), false),
            Node::Rules(rules) => (rules, true),
        };
        let listed = root.object.properties.len();
        Plan { root, decides, listed, fields: Fields::default() }.finding(fields)
    }

    /// The same with other fields to find.
    pub(crate) fn finding(&self, fields: &Fields) -> Plan {
        let Plan { decides, listed, .. } = *self;
        let plan = |root| Plan { root, decides, listed, fields: fields.clone() };
        if *fields == self.fields {
            return plan(self.root.clone());
        }
        let mut root = Rules::clone(&self.root);
        let object = &mut root.object;
        object.properties.truncate(listed);
        for property in &mut object.properties {
            (property.is_key, property.is_id) = (false, false);
        }
        if let Some(key) = &fields.key {
            let at = object.property(key);
            object.properties[at].is_key = true;
        }
        if let Some(id) = &fields.id {
            let at = object.property(id);
            object.properties[at].is_id = true;
        }
        plan(Arc::new(root))
    }
}
