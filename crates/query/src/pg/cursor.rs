//! Cursors: DECLARE keeps a running query under a name, FETCH takes rows from it as they are produced.
//!
//! A cursor keeps the snapshot it was declared on. Nothing is read ahead of a FETCH.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{CloseCursor, FetchDirection, Ident, Statement, Value};
use futures::{StreamExt, stream};
use pgwire::api::portal::{Portal, PortalExecutionState};
use pgwire::api::results::{QueryResponse, Response, Tag};
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{MemPortalStore, PortalStore};
use pgwire::error::PgWireResult;

use super::errors::{error, user};

/// What the wire library keeps for a prepared statement: its text, and unless it is empty its syntax tree and plan.
pub(super) type Prepared = (String, Option<(Statement, LogicalPlan)>);

pub(super) async fn declare(store: &MemPortalStore<Prepared>, name: &Ident, query: String, rows: QueryResponse) {
    let statement = Arc::new(StoredStatement::new(name.value.clone(), (query, None), vec![]));
    let portal = Portal::new_cursor(name.value.clone(), statement);
    portal.start(fused(rows)).await;
    store.put_portal(Arc::new(portal));
}

/// May be asked for rows again after its end.
pub(super) fn fused(rows: QueryResponse) -> QueryResponse {
    let mut response = QueryResponse::new(rows.row_schema(), rows.data_rows.fuse());
    response.set_command_tag(&rows.command_tag);
    response
}

/// The open cursor of that name.
pub(super) fn find(store: &MemPortalStore<Prepared>, name: &Ident) -> PgWireResult<Arc<Portal<Prepared>>> {
    store
        .get_portal(&name.value)
        .and_then(|entry| entry.value().cloned())
        .ok_or_else(|| user(error("34000", format!("cursor \"{}\" does not exist", name.value))))
}

pub(super) async fn fetch(
    store: &MemPortalStore<Prepared>,
    name: &Ident,
    direction: &FetchDirection,
) -> PgWireResult<Response> {
    let left = rows_wanted(direction)?;
    let state = find(store, name)?.state();
    let row_schema = match &*state.lock().await {
        PortalExecutionState::Suspended(rows) => rows.row_schema(),
        _ => return Err(user(error("55000", format!("cursor \"{}\" is not open", name.value)))),
    };
    let rows = stream::unfold((state, left), |(state, left)| async move {
        let left = match left {
            Some(0) => return None,
            left => left.map(|left| left - 1),
        };
        let row = match &mut *state.lock().await {
            PortalExecutionState::Suspended(rows) => rows.data_rows().next().await,
            _ => None,
        };
        row.map(|row| (row, (state, left)))
    });
    let mut response = QueryResponse::new(row_schema, rows);
    response.set_command_tag("FETCH");
    Ok(Response::Query(response))
}

pub(super) fn close(store: &MemPortalStore<Prepared>, cursor: &CloseCursor) -> PgWireResult<Response> {
    match cursor {
        CloseCursor::All => store.clear_portals(),
        CloseCursor::Specific { name } => {
            find(store, name)?;
            store.rm_portal(&name.value);
        }
    }
    Ok(Response::Execution(Tag::new("CLOSE CURSOR")))
}

/// `None`: all that is left.
fn rows_wanted(direction: &FetchDirection) -> PgWireResult<Option<u64>> {
    let count = |value: &Value| match value {
        Value::Number(digits, _) => digits.parse().map(Some).ok(),
        _ => None,
    };
    let wanted = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Some(Some(1)),
        FetchDirection::Forward { limit: Some(limit) } | FetchDirection::Count { limit } => count(limit),
        FetchDirection::ForwardAll | FetchDirection::All => Some(None),
        _ => None,
    };
    wanted.ok_or_else(|| user(error("55000", "a cursor can only move forward")))
}
