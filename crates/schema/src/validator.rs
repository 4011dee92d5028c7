//! A schema compiled twice: to a plan for the scanner, and by the reference implementation, which has the last word.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use crate::plan::Plan;
use crate::scan::{Break, Scanned, Verdict, scan};
use crate::{Reason, string_value};

/// Top-level fields to find while scanning.
#[derive(Debug, Clone, Default)]
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
}

/// Decides whether a JSON document is valid. Cheap to share, not to compile.
#[derive(Debug)]
pub struct Validator {
    plan: Plan,
    /// `None` takes any JSON.
    reference: Option<jsonschema::Validator>,
    max_depth: usize,
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
/// Reasons told of one document; the rest is counted.
const REASONS_MAX: usize = 64;
/// A message quotes the offending value, which may be large.
const MESSAGE_BYTES_MAX: usize = 512;

impl Validator {
    /// Compiles a JSON Schema (2020-12 unless it says otherwise). Formats are asserted. Nothing is fetched: a remote
    /// reference is an error. Documents nested deeper than `max_depth` (at most 127) are refused.
    pub fn compile(schema: &str, fields: &Fields, max_depth: usize) -> Result<Validator, SchemaError> {
        let schema: Value = serde_json::from_str(schema)?;
        let reference = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&schema)
            .map_err(|error| SchemaError::Invalid(shortened(error.to_string())))?;
        Ok(Validator {
            plan: Plan::compile(Some(&schema), fields),
            reference: Some(reference),
            max_depth: max_depth.min(DEPTH_MAX),
        })
    }

    /// Takes any JSON.
    pub fn any(fields: &Fields, max_depth: usize) -> Validator {
        Validator { plan: Plan::compile(None, fields), reference: None, max_depth: max_depth.min(DEPTH_MAX) }
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
        if let Err(error) = std::str::from_utf8(raw) {
            return Err(vec![not_utf8(&error)]);
        }
        let scanned = self.scan(raw, 0).map_err(|broken| vec![not_json(&broken, 0)])?;
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
