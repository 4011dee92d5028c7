//! `->` and `->>` on JSON text, as PostgreSQL has them on `json` columns: `metadata->>'status'`.
//!
//! Free-form fields are JSON text in every store. The right side is a key of an object, or a place in an array (negative
//! counts from its end). What is not there, and text that is not JSON, is NULL: a query over all of history must not
//! fail because of one row.

use std::sync::Arc;

use datafusion::arrow::array::{Array, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;

pub(super) fn register(session: &mut SessionContext) -> Result<()> {
    let operators = JsonOperators {
        get: Arc::new(JsonGet::new("json_get", Answer::Json).into()),
        get_text: Arc::new(JsonGet::new("json_get_text", Answer::Text).into()),
    };
    session.register_udf(operators.get.clone())?;
    session.register_udf(operators.get_text.clone())?;
    session.register_expr_planner(Arc::new(operators))
}

#[derive(Debug)]
struct JsonOperators {
    get: Arc<ScalarUDF>,
    get_text: Arc<ScalarUDF>,
}

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => &self.get,
            BinaryOperator::LongArrow => &self.get_text,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(function.call(vec![expr.left, expr.right])))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Json,
    Text,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonGet {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

impl JsonGet {
    fn new(name: &'static str, answer: Answer) -> JsonGet {
        let taken = [DataType::Utf8, DataType::Int64].map(|key| TypeSignature::Exact(vec![DataType::Utf8, key]));
        JsonGet { name, answer, signature: Signature::one_of(taken.to_vec(), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonGet {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [json, key] = args.args.as_slice() else { return plan_err!("{} takes two arguments", self.name) };
        // A place is read back from text: one path for keys that are constant and keys that are columns.
        let by_place = key.data_type() == DataType::Int64;
        let rows =
            if let (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) = (json, key) { 1 } else { args.number_rows };
        let json = text(json, rows)?;
        let key = text(key, rows)?;
        let (json, key) = (strings(&json)?, strings(&key)?);
        let mut answers = StringBuilder::with_capacity(rows, 0);
        for row in 0..rows {
            let found = (json.is_valid(row) && key.is_valid(row))
                .then(|| find(json.value(row), key.value(row), by_place, self.answer))
                .flatten();
            answers.append_option(found);
        }
        let answers = answers.finish();
        if args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}

fn text(value: &ColumnarValue, rows: usize) -> Result<Arc<dyn Array>> {
    Ok(cast(&value.to_array(rows)?, &DataType::Utf8)?)
}

fn strings(array: &Arc<dyn Array>) -> Result<&datafusion::arrow::array::StringArray> {
    datafusion::common::cast::as_string_array(array)
}

fn find(json: &str, key: &str, by_place: bool, answer: Answer) -> Option<String> {
    let found = if by_place {
        let place: i64 = key.parse().ok()?;
        let mut elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(json).ok()?;
        let place = if place < 0 { place + i64::try_from(elements.len()).ok()? } else { place };
        let place = usize::try_from(place).ok().filter(|place| *place < elements.len())?;
        elements.swap_remove(place)
    } else {
        let mut fields: std::collections::HashMap<String, &serde_json::value::RawValue> =
            serde_json::from_str(json).ok()?;
        fields.remove(key)?
    };
    match answer {
        Answer::Json => Some(found.get().to_owned()),
        Answer::Text => match found.get().as_bytes().first()? {
            b'"' => serde_json::from_str(found.get()).ok(),
            b'n' => None,
            _ => Some(found.get().to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_postgresql_does() {
        let json = r#"{"a": 1.50, "b": "x\n\"y\"", "c": null, "d": [1, {"e": true}], "é": "ü", "a": 2}"#;
        let get = |key, answer| find(json, key, false, answer);
        assert_eq!(get("a", Answer::Text).as_deref(), Some("2"), "the last of a key wins");
        assert_eq!(get("b", Answer::Text).as_deref(), Some("x\n\"y\""));
        assert_eq!(get("b", Answer::Json).as_deref(), Some(r#""x\n\"y\"""#));
        assert_eq!(get("c", Answer::Text), None);
        assert_eq!(get("c", Answer::Json).as_deref(), Some("null"));
        assert_eq!(get("d", Answer::Text).as_deref(), Some(r#"[1, {"e": true}]"#));
        assert_eq!(get("é", Answer::Text).as_deref(), Some("ü"));
        assert_eq!(get("missing", Answer::Text), None);
        assert_eq!(find("[1, [2]]", "-1", true, Answer::Text).as_deref(), Some("[2]"));
        assert_eq!(find("[1, [2]]", "2", true, Answer::Text), None);
        assert_eq!(find("[1, [2]]", "-3", true, Answer::Text), None);
        for other in ["", "not json", "7", "\"text\"", "{\"a\": 1"] {
            assert_eq!(find(other, "a", false, Answer::Text), None, "{other}");
        }
    }

    #[tokio::test]
    async fn operators_work_in_statements() {
        let mut session = SessionContext::new();
        session.state_ref().write().config_mut().options_mut().sql_parser.dialect =
            datafusion::common::config::Dialect::PostgreSQL;
        register(&mut session).unwrap();
        let sql = "SELECT metadata->>'status' AS status, count(*) AS n, max(metadata->'deep'->'more'->>0) AS first \
                   FROM (VALUES ('{\"status\": 200, \"deep\": {\"more\": [\"a\"]}}'), ('{\"status\": 200}'), (NULL)) t(metadata) \
                   GROUP BY 1 ORDER BY 1";
        let rows = session.sql(sql).await.unwrap().collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        let cells: Vec<&str> =
            shown.split(['|', '\n']).map(str::trim).filter(|cell| !cell.is_empty() && !cell.starts_with('+')).collect();
        assert_eq!(cells, ["status", "n", "first", "200", "2", "a", "1"], "{shown}");
    }
}
