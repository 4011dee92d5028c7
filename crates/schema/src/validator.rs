//! A schema compiled twice: to a plan for the scanner, and by the reference implementation, which has the last word.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::cost::Cost;
use crate::document::Document;
use crate::formats::NamedSchema;
use crate::plan::Plan;
use crate::scan::{Break, Scanned, Verdict, scan};
use crate::{Reason, string_value};

/// Top-level fields to find while scanning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    pub key: Option<String>,
    pub id: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the schema is not a valid JSON Schema: {0}")]
    Invalid(String),
    #[error("the schema of {size} bytes is larger than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    /// Look-around and back-references need an engine that an event could keep busy for ever.
    #[error(
        "the pattern {pattern:?} is not supported: {reason}; patterns run in linear time, without look-around and back-references"
    )]
    Pattern { pattern: String, reason: String },
    #[error(
        "the schema refers to {0:?}, which is not part of it: nothing is fetched, register it as a reference instead"
    )]
    Remote(String),
    #[error("the reference {name:?}: {error}")]
    Reference { name: String, error: Box<SchemaError> },
    #[error("the schema's reference {0:?} leads back to itself")]
    Circular(String),
    #[error("more than {0} references of the schema lead from one to the next")]
    TooLong(usize),
    #[error("more than {0} parts of the schema would look at one value: its references double")]
    TooBranched(u64),
}

/// Decides whether a JSON document is valid. Cheap to share, not to compile.
#[derive(Debug)]
pub struct Validator {
    plan: Plan,
    /// `None` takes any JSON.
    reference: Option<Arc<jsonschema::Validator>>,
    max_depth: usize,
    /// Deeper documents cost the reference too much under this schema.
    affordable_depth: usize,
}

/// A valid document.
#[derive(Debug)]
pub struct Checked<'a> {
    /// The record key: the text of the key field (a string unescaped, a number or boolean as written).
    pub key: Option<Cow<'a, [u8]>>,
    /// Where in the document the id stands, as a JSON string or number.
    pub id: Option<Range<usize>>,
}

/// The reference parser stops at 128 levels.
const DEPTH_MAX: usize = 127;
/// Text of a schema.
const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// Reasons told of one document; the rest is counted.
const REASONS_MAX: usize = 64;
/// A message quotes the offending value, which may be large.
const MESSAGE_BYTES_MAX: usize = 512;

impl Validator {
    /// Compiles a JSON Schema (2020-12 unless it says otherwise). Formats are asserted. Nothing is fetched: a remote
    /// reference is an error. Documents nested deeper than `max_depth` (at most 127) are refused.
    pub fn compile(schema: &str, fields: &Fields, max_depth: usize) -> Result<Validator, SchemaError> {
        Validator::compile_with(schema, &[], fields, max_depth)
    }

    /// The same of a schema that refers to others, by their names.
    pub fn compile_with(
        schema: &str,
        references: &[NamedSchema],
        fields: &Fields,
        max_depth: usize,
    ) -> Result<Validator, SchemaError> {
        Validator::of(&read(schema, references)?, fields, max_depth)
    }

    pub(crate) fn of(document: &Document, fields: &Fields, max_depth: usize) -> Result<Validator, SchemaError> {
        let schema = document.root().map_err(|error| referred(&error))?.schema;
        let max_depth = max_depth.min(DEPTH_MAX);
        let cost = Cost::of(document, max_depth)?;
        let reference = jsonschema::options()
            .offline()
            .with_registry(document.registry())
            .should_validate_formats(true)
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(schema)
            .map_err(|error| refused(document, &error))?;
        Ok(Validator {
            plan: Plan::compile(Some(schema), fields),
            reference: Some(Arc::new(reference)),
            max_depth,
            affordable_depth: cost.depth_max,
        })
    }

    /// Takes any JSON.
    pub fn any(fields: &Fields, max_depth: usize) -> Validator {
        let max_depth = max_depth.min(DEPTH_MAX);
        Validator { plan: Plan::compile(None, fields), reference: None, max_depth, affordable_depth: max_depth }
    }

    /// The same schema, for documents in which `fields` are to be found as well, and of at most `max_depth` levels, where that
    /// is less. Far cheaper than to compile it again.
    pub fn finding(&self, fields: &Fields, max_depth: usize) -> Validator {
        Validator {
            plan: self.plan.finding(fields),
            reference: self.reference.clone(),
            max_depth: self.max_depth.min(max_depth),
            affordable_depth: self.affordable_depth,
        }
    }

    /// Scans the one value that begins at `at` (or behind white space there); more may follow it. Does not look at UTF-8.
    pub fn scan(&self, bytes: &[u8], at: usize) -> Result<Scanned, Break> {
        scan(&self.plan, self.max_depth, bytes, at)
    }

    /// The last word on a scanned value: `raw` is its bytes, known to be UTF-8.
    pub fn judge(&self, raw: &[u8], verdict: Verdict) -> Result<(), Vec<Reason>> {
        match verdict {
            Verdict::Valid => Ok(()),
            Verdict::Flawed(reasons) => Err(reasons),
            Verdict::Undecided => self.consult(raw),
        }
    }

    /// Checks one whole document.
    pub fn check<'a>(&self, raw: &'a [u8]) -> Result<Checked<'a>, Vec<Reason>> {
        self.check_within(self.max_depth, raw)
    }

    /// The same with a limit of its own to the levels of nesting, where that is less than the validator's.
    pub fn check_within<'a>(&self, max_depth: usize, raw: &'a [u8]) -> Result<Checked<'a>, Vec<Reason>> {
        if let Err(error) = std::str::from_utf8(raw) {
            return Err(vec![not_utf8(&error)]);
        }
        let max_depth = self.max_depth.min(max_depth);
        let scanned = scan(&self.plan, max_depth, raw, 0).map_err(|broken| vec![not_json(&broken, 0)])?;
        if let Some(behind) = raw[scanned.end..].iter().position(|byte| !byte.is_ascii_whitespace()) {
            let broken = Break { at: scanned.end + behind, message: "trailing characters" };
            return Err(vec![not_json(&broken, 0)]);
        }
        self.judge(raw, scanned.verdict)?;
        Ok(Checked { key: scanned.key.and_then(|key| key_bytes(&raw[key])), id: scanned.id })
    }

    #[cold]
    fn consult(&self, raw: &[u8]) -> Result<(), Vec<Reason>> {
        let Some(reference) = &self.reference else { return Ok(()) };
        let value: Value =
            serde_json::from_slice(raw).map_err(|error| vec![Reason::whole("json", error.to_string())])?;
        if self.affordable_depth < self.max_depth && depth_of(&value) > self.affordable_depth {
            let depth = self.affordable_depth;
            let message = format!("nested deeper than the {depth} levels that can be checked under this schema");
            return Err(vec![Reason::whole("depth", message)]);
        }
        let mut errors = reference.iter_errors(&value);
        let mut reasons: Vec<Reason> = errors.by_ref().take(REASONS_MAX).map(|error| reason(&error)).collect();
        match errors.count() {
            0 => {}
            more => reasons.push(Reason::whole("more", format!("{more} more reasons"))),
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// The record key that a token of the key field stands for. Objects, arrays and null are no key.
pub fn key_bytes(token: &[u8]) -> Option<Cow<'_, [u8]>> {
    match token.first()? {
        b'"' => string_value(token),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(token)),
    }
}

/// The reason for a break; positions count from `start`.
pub fn not_json(broken: &Break, start: usize) -> Reason {
    Reason::whole("json", format!("not JSON: {} at byte {}", broken.message, broken.at.saturating_sub(start)))
}

pub fn not_utf8(error: &std::str::Utf8Error) -> Reason {
    Reason::whole("encoding", format!("not UTF-8 at byte {}", error.valid_up_to()))
}

/// Levels of nesting, which the scanner has bounded.
fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

/// A schema and what it refers to, as the validator and the comparison of versions take them.
pub(crate) fn read(schema: &str, references: &[NamedSchema]) -> Result<Document, SchemaError> {
    let size = references.iter().fold(schema.len(), |size, reference| size.saturating_add(reference.text.len()));
    if size > SCHEMA_BYTES_MAX {
        return Err(SchemaError::TooLarge { size, limit: SCHEMA_BYTES_MAX });
    }
    let references = references.iter().map(|reference| {
        let schema = serde_json::from_str(&reference.text).map_err(|error| SchemaError::Reference {
            name: reference.name.clone(),
            error: Box::new(SchemaError::Json(error)),
        })?;
        Ok((reference.name.clone(), schema))
    });
    let references = references.collect::<Result<_, SchemaError>>()?;
    Document::new(serde_json::from_str(schema)?, references).map_err(|error| referred(&error))
}

/// Why the reference does not take a schema, in our words where it is something that we refuse.
fn refused(document: &Document, error: &jsonschema::ValidationError<'_>) -> SchemaError {
    for place in document.all() {
        if let Some((pattern, reason)) = refused_pattern(place.schema) {
            return SchemaError::Pattern { pattern: shortened(pattern.to_owned()), reason: shortened(reason) };
        }
    }
    match error.kind() {
        jsonschema::error::ValidationErrorKind::Referencing(error) => referred(error),
        _ => SchemaError::Invalid(shortened(error.to_string())),
    }
}

fn referred(error: &jsonschema::ReferencingError) -> SchemaError {
    match error {
        jsonschema::ReferencingError::Unretrievable { uri, .. } => SchemaError::Remote(shortened(uri.clone())),
        error => SchemaError::Invalid(shortened(error.to_string())),
    }
}

/// The first pattern that the engine does not run.
fn refused_pattern(schema: &Value) -> Option<(&str, String)> {
    let refused = |pattern: &'_ str| match jsonschema_regex::to_rust_regex(pattern) {
        Err(()) => Some("it is not a regular expression of ECMA-262".to_owned()),
        Ok(translated) => regex::Regex::new(&translated).err().map(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes compiled"),
            error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        }),
    };
    match schema {
        Value::Object(keywords) => {
            let own = keywords.get("pattern").and_then(Value::as_str);
            let names = keywords.get("patternProperties").and_then(Value::as_object);
            own.into_iter()
                .chain(names.into_iter().flat_map(|names| names.keys().map(String::as_str)))
                .find_map(|pattern| refused(pattern).map(|reason| (pattern, reason)))
                .or_else(|| keywords.values().find_map(refused_pattern))
        }
        Value::Array(schemas) => schemas.iter().find_map(refused_pattern),
        _ => None,
    }
}

fn reason(error: &jsonschema::ValidationError<'_>) -> Reason {
    Reason {
        path: error.instance_path().to_string(),
        message: shortened(error.to_string()),
        keyword: error.kind().keyword().to_owned(),
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}
