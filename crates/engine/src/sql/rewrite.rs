//! Queries as written to queries as DataFusion plans them: `TUMBLE(…)` becomes a derived table, `*` becomes the columns
//! that a reader would expect (system columns stay out of it), and stateless stages carry `__row` along.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Spanned, TableAlias, TableFactor, TableFunctionArgs, Value,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::error::{At, SqlError};
use super::functions::{TUMBLE_END, TUMBLE_START};
use super::options::{duration, unit_us, unknown};
use super::{ROW, identifier, timestamp_type};

pub const WINDOW_START_COLUMN: &str = "window_start";
pub const WINDOW_END_COLUMN: &str = "window_end";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Rows of the epoch: a source or a stateless view over the source of this index.
    Stream(usize),
    Lookup,
    Sink,
    Materialized,
}

/// A name that a query may read, or must not.
#[derive(Debug)]
pub struct Relation {
    pub kind: RelationKind,
    pub columns: Vec<RelationColumn>,
}

#[derive(Debug, Clone)]
pub struct RelationColumn {
    pub name: String,
    pub data_type: DataType,
    /// Part of `*`.
    pub visible: bool,
}

pub type Relations = BTreeMap<String, Relation>;

/// What a query turned out to read.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    pub source: usize,
    pub windowed: bool,
}

/// One name in a `FROM` clause.
struct Scope {
    alias: String,
    /// Name (`None` for an expression without one) and whether `*` shows it.
    columns: Vec<(Option<String>, bool)>,
    stream: Option<Reads>,
}

pub struct Rewriter<'a> {
    pub relations: &'a Relations,
    pub at: &'a At,
    /// Windows are allowed: only in materialized views.
    pub windows: bool,
}

impl Rewriter<'_> {
    /// `row`: add `__row` to the result.
    pub fn query(&self, query: &mut Query, row: bool) -> Result<Reads, SqlError> {
        self.nested(query, row).map(|(reads, _)| reads)
    }

    fn nested(&self, query: &mut Query, row: bool) -> Result<(Reads, Vec<Option<String>>), SqlError> {
        let refused = [
            (query.with.is_some(), "WITH: make it a CREATE VIEW of its own"),
            (query.order_by.is_some(), "ORDER BY: rows have no order here; sort when you query the view"),
            (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT: cut when you query the view"),
        ];
        let at = self.at.moved(query.span());
        if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
            return Err(at.error(format!("a pipeline cannot have {what}")));
        }
        match query.body.as_mut() {
            SetExpr::Select(select) => self.select(select, row, &at),
            SetExpr::Query(inner) => self.nested(inner, row),
            SetExpr::SetOperation { op, .. } => {
                Err(at.error(format!("a pipeline cannot have {op}: write one statement for each side")))
            }
            other => Err(at.error(format!("expected SELECT, found {other}"))),
        }
    }

    fn select(&self, select: &mut Select, row: bool, at: &At) -> Result<(Reads, Vec<Option<String>>), SqlError> {
        let [from] = select.from.as_mut_slice() else {
            return Err(at.error(match select.from.len() {
                0 => "FROM is missing: a pipeline reads a source or a view",
                _ => "FROM names several tables: join a look-up table with LEFT JOIN … ON …",
            }));
        };
        let mut scopes = vec![self.factor(&mut from.relation)?];
        for join in &mut from.joins {
            scopes.push(self.factor(&mut join.relation)?);
        }
        let Some(reads) = scopes[0].stream else {
            return Err(at.error(format!("{} is a look-up table: read a source or view and join it", scopes[0].alias)));
        };
        if let Some(second) = scopes[1..].iter().find(|scope| scope.stream.is_some()) {
            let (first, second) = (&scopes[0].alias, &second.alias);
            return Err(at.error(format!(
                "{first} and {second} are both streams: only look-up tables (connector = 'file') can be joined"
            )));
        }
        self.expand(select, &scopes)?;
        let mut names: Vec<Option<String>> = Vec::with_capacity(select.projection.len() + 1);
        for item in &select.projection {
            let name = item_name(item);
            if reads.windowed
                && let SelectItem::ExprWithAlias { expr, alias } = item
                && [WINDOW_START_COLUMN, WINDOW_END_COLUMN].contains(&alias.value.as_str())
                && !is_column(expr, &alias.value)
            {
                let at = self.at.moved(item.span());
                return Err(at.error(format!("{} is the window's own: give this column another name", alias.value)));
            }
            if let Some(twice) = name.as_ref().filter(|_| names.contains(&name)) {
                let at = self.at.moved(item.span());
                return Err(at.error(format!("two columns are called {twice}: rename one with AS")));
            }
            names.push(name);
        }
        if row && !grouped(select) {
            select.projection.push(item(&scopes[0].alias, ROW));
            names.push(Some(ROW.to_string()));
        }
        Ok((reads, names))
    }

    fn expand(&self, select: &mut Select, scopes: &[Scope]) -> Result<(), SqlError> {
        let mut expanded = Vec::with_capacity(select.projection.len());
        for given in std::mem::take(&mut select.projection) {
            let at = self.at.moved(given.span());
            match &given {
                SelectItem::Wildcard(options) => {
                    plain(options, &at)?;
                    for scope in scopes {
                        expanded.extend(all_of(scope, &at)?);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    plain(options, &at)?;
                    let wanted = single(name, &at)?;
                    let known: Vec<&str> = scopes.iter().map(|scope| scope.alias.as_str()).collect();
                    let scope = scopes
                        .iter()
                        .find(|scope| scope.alias == wanted)
                        .ok_or_else(|| at.error(unknown("table", &wanted, &known)))?;
                    expanded.extend(all_of(scope, &at)?);
                }
                _ => expanded.push(given),
            }
        }
        select.projection = expanded;
        Ok(())
    }

    fn factor(&self, factor: &mut TableFactor) -> Result<Scope, SqlError> {
        let at = self.at.moved(factor.span());
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let name = single(name, &at)?;
                let relation = self.relation(&name, &at)?;
                let columns = relation.columns.iter().map(|column| (Some(column.name.clone()), column.visible));
                let stream = match relation.kind {
                    RelationKind::Stream(source) => Some(Reads { source, windowed: false }),
                    _ => None,
                };
                Ok(Scope { alias: alias_name(alias, &at)?.unwrap_or(name), columns: columns.collect(), stream })
            }
            TableFactor::Table { name, alias, args: Some(arguments), .. } => {
                let function = single(name, &at)?;
                if function != "tumble" {
                    return Err(at.error(unknown("window", &function, &["tumble"])));
                }
                if !self.windows {
                    return Err(at.error("TUMBLE belongs into a materialized view, around the view or source it reads"));
                }
                let alias = alias_name(alias, &at)?;
                let (derived, scope) = self.tumble(arguments, alias, &at)?;
                *factor = derived;
                Ok(scope)
            }
            TableFactor::Derived { lateral: false, subquery, alias, .. } => {
                let alias = alias_name(alias, &at)?
                    .ok_or_else(|| at.error("a subquery in FROM needs a name: (SELECT …) AS name"))?;
                let (reads, names) = self.nested(subquery, true)?;
                let columns = names.into_iter().map(|name| {
                    let visible = name.as_deref() != Some(ROW);
                    (name, visible)
                });
                Ok(Scope { alias, columns: columns.collect(), stream: Some(reads) })
            }
            other => Err(at.error(format!("a pipeline cannot read {other}"))),
        }
    }

    fn relation(&self, name: &str, at: &At) -> Result<&Relation, SqlError> {
        let readable = |kind| matches!(kind, RelationKind::Stream(_) | RelationKind::Lookup);
        match self.relations.get(name) {
            Some(relation) if readable(relation.kind) => Ok(relation),
            Some(relation) if relation.kind == RelationKind::Sink => {
                Err(at.error(format!("{name} is a sink: it can only be written, by INSERT INTO {name}")))
            }
            Some(_) => Err(at.error(format!("{name} is a materialized view: pipelines cannot read it, queries can"))),
            None => {
                let known = self.relations.iter().filter(|(_, relation)| readable(relation.kind));
                Err(at.error(unknown("table", name, &known.map(|(name, _)| name.as_str()).collect::<Vec<_>>())))
            }
        }
    }

    /// `TUMBLE(table, time, INTERVAL '…')` to a derived table with two more columns.
    fn tumble(
        &self,
        arguments: &TableFunctionArgs,
        alias: Option<String>,
        at: &At,
    ) -> Result<(TableFactor, Scope), SqlError> {
        const USAGE: &str = "write TUMBLE(table, time_column, INTERVAL '10' SECOND)";
        let expressions: Vec<&Expr> = arguments
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Ok(expression),
                _ => Err(at.error(USAGE)),
            })
            .collect::<Result<_, _>>()?;
        let [Expr::Identifier(table), Expr::Identifier(time), Expr::Interval(width)] = expressions[..] else {
            return Err(at.error(USAGE));
        };
        let (table_at, time_at) = (at.moved(table.span), at.moved(time.span));
        let (table, time) = (identifier(table), identifier(time));
        let relation = self.relation(&table, &table_at)?;
        let RelationKind::Stream(source) = relation.kind else {
            return Err(table_at.error(format!("{table} is a look-up table: it has no time")));
        };
        let names: Vec<&str> =
            relation.columns.iter().map(|column| column.name.as_str()).filter(|name| *name != ROW).collect();
        match relation.columns.iter().find(|column| column.name == time) {
            None => return Err(time_at.error(unknown("column", &time, &names))),
            Some(column) if column.data_type != timestamp_type() => {
                return Err(time_at.error(format!("{time} is no TIMESTAMPTZ column: windows are made of event time")));
            }
            Some(_) => {}
        }
        if let Some(name) = names.iter().find(|name| [WINDOW_START_COLUMN, WINDOW_END_COLUMN].contains(name)) {
            return Err(table_at.error(format!("{table} has a column {name} already: rename it in a view")));
        }
        let width_us = interval_us(width).map_err(|message| at.error(message))?;
        let alias = alias.unwrap_or_else(|| table.clone());
        let columns: Vec<String> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
        let (columns, time, table, name) = (columns.join(", "), quoted(&time), quoted(&table), quoted(&alias));
        let text = format!(
            "(SELECT {columns}, {TUMBLE_START}({time}, {width_us}) AS {WINDOW_START_COLUMN}, \
             {TUMBLE_END}({time}, {width_us}) AS {WINDOW_END_COLUMN} FROM {table} WHERE {time} IS NOT NULL) AS {name}"
        );
        let derived = Parser::new(&PostgreSqlDialect {})
            .try_with_sql(&text)
            .and_then(|mut parser| parser.parse_table_factor())
            .map_err(|error| at.error(error.to_string()))?;
        let mut columns: Vec<_> =
            relation.columns.iter().map(|column| (Some(column.name.clone()), column.visible)).collect();
        columns.extend([WINDOW_START_COLUMN, WINDOW_END_COLUMN].map(|name| (Some(name.to_string()), true)));
        Ok((derived, Scope { alias, columns, stream: Some(Reads { source, windowed: true }) }))
    }
}

fn interval_us(interval: &datafusion::sql::sqlparser::ast::Interval) -> Result<i64, String> {
    let usage = || format!("{interval}: write a window's width as INTERVAL '10' SECOND, in units up to weeks");
    let Expr::Value(value) = interval.value.as_ref() else { return Err(usage()) };
    let text = match &value.value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => text,
        _ => return Err(usage()),
    };
    let micros = match &interval.leading_field {
        None => duration(text).ok().map(|width| width.as_micros() as u64),
        Some(unit) => {
            text.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit_us(&unit.to_string())?))
        }
    };
    micros.and_then(|micros| i64::try_from(micros).ok()).filter(|micros| *micros > 0).ok_or_else(usage)
}

fn grouped(select: &Select) -> bool {
    match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
    }
}

pub fn single(name: &ObjectName, at: &At) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(identifier),
        _ => None,
    }
    .ok_or_else(|| at.error(format!("{name}: names of a pipeline have one part")))
}

fn alias_name(alias: &Option<TableAlias>, at: &At) -> Result<Option<String>, SqlError> {
    match alias {
        Some(alias) if !alias.columns.is_empty() => {
            Err(at.error(format!("{alias}: name the columns in the SELECT list instead")))
        }
        alias => Ok(alias.as_ref().map(|alias| identifier(&alias.name))),
    }
}

fn plain(options: &WildcardAdditionalOptions, at: &At) -> Result<(), SqlError> {
    let text = options.to_string();
    if text.trim().is_empty() { Ok(()) } else { Err(at.error(format!("{text}: name the columns instead"))) }
}

fn all_of(scope: &Scope, at: &At) -> Result<Vec<SelectItem>, SqlError> {
    let shown = scope.columns.iter().filter(|(_, visible)| *visible);
    shown
        .map(|(name, _)| match name {
            Some(name) => Ok(item(&scope.alias, name)),
            None => Err(at.error(format!("a column of {} has no name: give it one with AS", scope.alias))),
        })
        .collect()
}

fn item(alias: &str, column: &str) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr: Expr::CompoundIdentifier(vec![Ident::with_quote('"', alias), Ident::with_quote('"', column)]),
        alias: Ident::with_quote('"', column),
    }
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(identifier(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(identifier(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(identifier),
        _ => None,
    }
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the expression is nothing but the column of that name.
fn is_column(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Identifier(column) => column.value == name,
        Expr::CompoundIdentifier(path) => path.last().is_some_and(|column| column.value == name),
        _ => false,
    }
}
