//! Which records `tap` shows: text to be found, or a condition on a JSON field.

use std::str::FromStr;

use playhouse_client::fetch::Incoming;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Found in key or value.
    Text(String),
    /// On a field of a JSON value; dots lead into objects.
    Field { path: Vec<String>, operator: Operator, operand: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Is,
    IsNot,
    Contains,
    AtLeast,
    AtMost,
    More,
    Less,
}

/// Longer ones first: `>=` is not `>`.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::IsNot),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=", Operator::Is),
    ("~", Operator::Contains),
    (">", Operator::More),
    ("<", Operator::Less),
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        let found = OPERATORS.into_iter().filter_map(|(sign, operator)| Some((text.find(sign)?, sign, operator)));
        // The first one in the text; of two at one place the longer.
        let Some((at, sign, operator)) = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len()))) else {
            return Ok(Filter::Text(text.to_owned()));
        };
        let (path, operand) = (&text[..at], &text[at + sign.len()..]);
        let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        if path.is_empty() || !path.chars().all(is_name) {
            return Ok(Filter::Text(text.to_owned()));
        }
        let path = path.split('.').map(str::to_owned).collect();
        Ok(Filter::Field { path, operator, operand: operand.to_owned() })
    }
}

impl Filter {
    /// `json`: the record's value, where it is JSON.
    pub fn takes(&self, record: &Incoming, json: Option<&Value>) -> bool {
        match self {
            Filter::Text(text) => {
                [&record.key, &record.value].into_iter().flatten().any(|it| contains(it, text.as_bytes()))
            }
            Filter::Field { path, operator, operand } => {
                let field = json.and_then(|json| path.iter().try_fold(json, |value, name| value.get(name)));
                matches(field, *operator, operand)
            }
        }
    }
}

fn matches(field: Option<&Value>, operator: Operator, operand: &str) -> bool {
    let text = match field {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let number = || Some(text.as_ref()?.parse::<f64>().ok()?.total_cmp(&operand.parse::<f64>().ok()?));
    // Times and names compare as text.
    let order = || number().or_else(|| Some(text.as_deref()?.cmp(operand)));
    match operator {
        Operator::Is => text.as_deref() == Some(operand) || number().is_some_and(|it| it.is_eq()),
        Operator::IsNot => !matches(field, Operator::Is, operand),
        Operator::Contains => text.is_some_and(|text| text.contains(operand)),
        Operator::AtLeast => order().is_some_and(|it| it.is_ge()),
        Operator::AtMost => order().is_some_and(|it| it.is_le()),
        Operator::More => order().is_some_and(|it| it.is_gt()),
        Operator::Less => order().is_some_and(|it| it.is_lt()),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(filter: &str, value: &str) -> bool {
        let record = Incoming {
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(b"user-7".to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        filter.parse::<Filter>().unwrap().takes(&record, serde_json::from_str(value).ok().as_ref())
    }

    #[test]
    fn fields_and_text_are_told_apart() {
        let value = r#"{"type":"play","position_ms":1500,"at":"2026-01-02","metadata":{"quality":"1080p"},"x":null}"#;
        for yes in [
            "play",
            "user-7",
            "type=play",
            "type!=pause",
            "position_ms>=1500",
            "position_ms<2e3",
            "position_ms=1500.0",
            "metadata.quality~1080",
            "at>2026-01-01",
            "missing!=1",
            "\"type\":\"play\"",
        ] {
            assert!(takes(yes, value), "{yes}");
        }
        for no in
            ["pause", "type=pause", "type!=play", "position_ms>1500", "missing=1", "x=null", "metadata.quality.deep=1"]
        {
            assert!(!takes(no, value), "{no}");
        }
        assert!(takes("not json", "not json") && !takes("type=play", "not json"));
    }
}
